#include <algorithm>

#include "common/limits.h"
#include "common/status.h"
#include "worker/generator.h"

namespace forecache {
namespace {

constexpr char kOracle[] = "oracle";
constexpr double kBudgetFractionDefault = 1.0 / 16;
constexpr float kAutoMissedDefault = 0.1f;
constexpr int kSinkBlocksDefault = 1;
constexpr int kRecentBlocksDefault = 3;
// Of the context's blocks to one that is resident, those that move a token.
constexpr double kTrafficDefault = 0.25;
constexpr size_t kRequestIdBytesMax = 128;
constexpr uint32_t kLateDeadlineMsMax = 60'000;

absl::StatusOr<SharedPrefix> ReadShared(const v1::GenerateRequest& request,
                                        int prompt_tokens) {
  if (request.domain().size() > kTenantNameBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("domain: ", request.domain().size(), " bytes, at most ",
                     kTenantNameBytesMax));
  }
  if (request.domain().empty() != (request.domain_tokens() == 0)) {
    return absl::InvalidArgumentError(
        "domain and domain_tokens: give both or none");
  }
  if (request.domain_tokens() > static_cast<uint32_t>(prompt_tokens)) {
    return absl::InvalidArgumentError(
        absl::StrCat("domain_tokens: ", request.domain_tokens(),
                     ", and the prompt has ", prompt_tokens));
  }
  return SharedPrefix{request.domain(),
                      static_cast<int>(request.domain_tokens())};
}

absl::Status CheckFields(const v1::GenerateRequest& request) {
  if (request.request_id().size() > kRequestIdBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("request_id: ", request.request_id().size(),
                     " bytes, at most ", kRequestIdBytesMax));
  }
  if (!v1::Mode_IsValid(request.mode())) {
    return absl::InvalidArgumentError("mode: not SPARSE, EXACT or AUTO");
  }
  if (!v1::LatePolicy_IsValid(request.late_policy())) {
    return absl::InvalidArgumentError(
        "late_policy: not WAIT, SKIP or STRICT");
  }
  if (request.late_deadline_ms() > kLateDeadlineMsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("late_deadline_ms: ", request.late_deadline_ms(),
                     ", at most ", kLateDeadlineMsMax));
  }
  const double missed = request.auto_missed_mass();
  if (!(missed >= 0 && missed <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("auto_missed_mass: ", missed, " is not in 0..1"));
  }
  const double share = request.probe_share();
  if (!(share >= 0 && share <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("probe_share: ", share, " is not in 0..1"));
  }
  const double floor = request.correction_floor();
  if (!(floor >= 0 && floor <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("correction_floor: ", floor, " is not in 0..1"));
  }
  const double target = request.traffic_target();
  if (!(target >= 0 && target <= kTrafficTargetMax)) {
    return absl::InvalidArgumentError(
        absl::StrCat("traffic_target: ", target, " is not in 0..",
                     kTrafficTargetMax));
  }
  const double fraction = request.budget_fraction();
  if (!(fraction >= 0 && fraction <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("budget_fraction: ", fraction, " is not in 0..1"));
  }
  return absl::OkStatus();
}

LatePolicy ReadLatePolicy(v1::LatePolicy policy) {
  switch (policy) {
    case v1::SKIP:
      return LatePolicy::kSkip;
    case v1::STRICT:
      return LatePolicy::kStrict;
    default:
      return LatePolicy::kWait;
  }
}

// Into a budget whose size is read already.
absl::Status ReadCorrections(const v1::GenerateRequest& request, int context,
                             Budget* budget) {
  // What follows one row of scores may be corrected by another.
  const int chosen = budget->blocks - budget->Floor();
  const bool lends =
      !request.has_lent_corrections() || request.lent_corrections();
  const bool scores = request.predictor() != "stream" &&
                      request.predictor() != "full";
  const bool is_oracle = request.predictor() == kOracle;
  const int most = std::min(chosen, kCorrectionSlotsMax);
  if (request.has_corrected_blocks() &&
      request.corrected_blocks() > static_cast<uint32_t>(most)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "corrected_blocks: ", request.corrected_blocks(), " of ", chosen,
        " chosen blocks, at most ", kCorrectionSlotsMax));
  }
  if (is_oracle && chosen > most) {
    return absl::InvalidArgumentError(absl::StrCat(
        "predictor: the oracle corrects all of the ", chosen,
        " chosen blocks, at most ", kCorrectionSlotsMax));
  }
  budget->corrected = !scores     ? 0
                      : is_oracle ? chosen
                      : lends     ? most
                                  : std::min(chosen * 3 / 8, most);
  if (scores && !is_oracle && request.has_corrected_blocks()) {
    budget->corrected = static_cast<int>(request.corrected_blocks());
  }
  budget->lends = lends && budget->corrected > 0 && !is_oracle;
  budget->correction_floor = static_cast<float>(request.correction_floor());
  if (budget->corrected == 0 || is_oracle) {
    return absl::OkStatus();
  }
  if (request.has_traffic_target()) {
    budget->traffic_target = request.traffic_target();
  } else if (budget->lends) {
    budget->traffic_target = std::min<double>(
        kTrafficDefault * context / budget->blocks, kTrafficTargetMax);
  }
  return absl::OkStatus();
}

absl::StatusOr<Budget> ReadBudget(const v1::GenerateRequest& request,
                                  int prompt_tokens) {
  const auto read = [](bool set, uint32_t value, int otherwise) {
    return set ? static_cast<int>(std::min<uint32_t>(value, kContextBlocksMax))
               : otherwise;
  };
  Budget budget;
  budget.sinks = read(request.has_sink_blocks(), request.sink_blocks(),
                      kSinkBlocksDefault);
  budget.recent = read(request.has_recent_blocks(), request.recent_blocks(),
                       kRecentBlocksDefault);
  const int context = (prompt_tokens + kBlockTokens - 1) / kBlockTokens;
  const double fraction = request.budget_fraction() > 0
                              ? request.budget_fraction()
                              : kBudgetFractionDefault;
  const int floor = budget.sinks + budget.recent + 1;
  const bool asked =
      request.budget_blocks() > 0 || request.budget_fraction() > 0;
  budget.blocks = request.budget_blocks() > 0
                      ? read(true, request.budget_blocks(), 0)
                      : static_cast<int>(context * fraction);
  // The default gives way to the floor, and so does any share of a context
  // that the floor holds whole; what was asked for and can't be is an error.
  if (budget.blocks < floor && (!asked || context <= floor)) {
    budget.blocks = floor;
  }
  if (budget.blocks < floor) {
    return absl::InvalidArgumentError(absl::StrCat(
        request.budget_blocks() > 0 ? "budget_blocks" : "budget_fraction",
        ": a budget of ", budget.blocks, " of ", context,
        " blocks is below sinks (", budget.sinks, ") + recent window (",
        budget.recent, ") + the block being filled (1) = ", floor));
  }
  FC_RETURN_IF_ERROR(ReadCorrections(request, context, &budget));
  return budget;
}

}  // namespace

absl::StatusOr<SessionOptions> ReadSessionOptions(
    const v1::GenerateRequest& request, int prompt_tokens) {
  FC_RETURN_IF_ERROR(CheckFields(request));
  SessionOptions options;
  options.request_id = request.request_id();
  FC_ASSIGN_OR_RETURN(options.shared, ReadShared(request, prompt_tokens));
  if (!request.predictor().empty()) options.predictor = request.predictor();
  if (request.ema_alpha() != 0) options.ema_alpha = request.ema_alpha();
  PrefetchOptions& prefetch = options.prefetch;
  prefetch.no_prefetch = request.no_prefetch();
  if (request.probe_every() > uint32_t{kContextTokensMax}) {
    return absl::InvalidArgumentError(
        absl::StrCat("probe_every: ", request.probe_every(), ", at most ",
                     kContextTokensMax));
  }
  prefetch.probe_every = std::max<int>(request.probe_every(), 1);
  prefetch.late_policy = ReadLatePolicy(request.late_policy());
  prefetch.late_deadline = request.late_deadline_ms() > 0
                               ? request.late_deadline_ms() * kMillisecond
                               : kLateDeadlineDefault;
  if (request.mode() == v1::EXACT) {
    // Every block, and none may be left out.
    options.predictor = "full";
    prefetch.budget.blocks = kContextBlocksMax;
    prefetch.late_policy = LatePolicy::kStrict;
    return options;
  }
  FC_ASSIGN_OR_RETURN(prefetch.budget, ReadBudget(request, prompt_tokens));
  prefetch.shared_scan =
      (!request.has_shared_scan() || request.shared_scan()) &&
      prefetch.budget.corrected > 0 && request.predictor() != kOracle;
  if (request.mode() == v1::AUTO) {
    if (prefetch.budget.corrected == 0) {
      return absl::InvalidArgumentError(
          "mode: AUTO needs corrections, whose scans are its estimate");
    }
    prefetch.shared_scan = true;
    prefetch.auto_missed = request.auto_missed_mass() > 0
                               ? float(request.auto_missed_mass())
                               : kAutoMissedDefault;
  }
  if (prefetch.shared_scan &&
      (prefetch.probe_every > 1 || request.probe_share() > 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        prefetch.probe_every > 1 ? "probe_every" : "probe_share",
        ": nothing is probed where corrections' scans are shared; ask for "
        "shared_scan: false"));
  }
  options.profiled_budget = request.has_profiled_budget()
                                ? request.profiled_budget()
                                : prefetch.budget.corrected > 0;
  options.probe_share = request.probe_share();
  if (request.predictor() == kOracle) {  // all is chosen by corrections
    options.predictor = "stream";
    prefetch.oracle = true;
  }
  prefetch.tail = !request.no_tail() && prefetch.budget.corrected > 0;
  return options;
}

}  // namespace forecache
