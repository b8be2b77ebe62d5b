#include "eval/policy.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache::eval {
namespace {

absl::StatusOr<double> Share(const std::string& text,
                             const std::string& policy) {
  double share = 0;
  if (!absl::SimpleAtod(text, &share) || !(share >= 0 && share <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--policy: '", policy, "': '", text, "' is not a number in 0..1"));
  }
  return share;
}

absl::StatusOr<int> Number(const std::string& text, int least, int most,
                           const std::string& policy) {
  int number = 0;
  if (!absl::SimpleAtoi(text, &number) || number < least || number > most) {
    return absl::InvalidArgumentError(
        absl::StrCat("--policy: '", policy, "': '", text,
                     "' is not a number in ", least, "..", most));
  }
  return number;
}

// [N][@FLOOR]
absl::Status ParseCorrection(const std::string& text, Policy* policy) {
  const std::vector<std::string> parts = absl::StrSplit(text, '@');
  policy->corrects = true;
  if (!parts[0].empty()) {
    FC_ASSIGN_OR_RETURN(
        policy->corrected,
        Number(parts[0], 0, kContextBlocksMax, policy->name));
  }
  if (parts.size() == 2) {
    FC_ASSIGN_OR_RETURN(policy->correction_floor,
                        Share(parts[1], policy->name));
  }
  return parts.size() <= 2 ? absl::OkStatus()
                           : absl::InvalidArgumentError(absl::StrCat(
                                 "--policy: '", policy->name,
                                 "': two floors of a correction"));
}

}  // namespace

absl::StatusOr<Policy> ParsePolicy(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '+');
  const std::vector<std::string> head = absl::StrSplit(parts[0], '/');
  const std::vector<std::string> name = absl::StrSplit(head[0], ':');
  Policy policy{.name = text, .predictor = name[0]};
  policy.is_default = text == "default";
  if (name[0].empty() || name.size() > 2 || head.size() > 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("--policy: '", text, "' is not ",
                     "NAME[:ALPHA][/EVERY][+c[N][@FLOOR]][+tail]"));
  }
  if (name.size() == 2) {
    FC_ASSIGN_OR_RETURN(policy.alpha, Share(name[1], text));
  }
  if (head.size() == 2) {
    FC_ASSIGN_OR_RETURN(policy.probe_every,
                        Number(head[1], 1, kContextTokensMax, text));
  }
  for (size_t i = 1; i < parts.size(); ++i) {
    if (parts[i] == "tail") {
      policy.tail = true;
    } else if (parts[i] == "shared") {
      policy.shared_scan = true;
    } else if (parts[i] == "lent") {
      policy.lent = true;
    } else if (parts[i] == "profile") {
      policy.profiled = true;
    } else if (parts[i][0] == 't') {
      policy.traffic_target.reset();
      double target = 0;
      if (parts[i] == "t") continue;  // the worker's
      if (!absl::SimpleAtod(parts[i].substr(1), &target) ||
          !(target >= 0 && target <= kTrafficTargetMax)) {
        return absl::InvalidArgumentError(absl::StrCat(
            "--policy: '", text, "': '+", parts[i], "' is no number of blocks "
            "in 0..", kTrafficTargetMax));
      }
      policy.traffic_target = target;
    } else if (parts[i][0] == 'p') {
      FC_ASSIGN_OR_RETURN(policy.probe_share,
                          Share(parts[i].substr(1), text));
    } else if (parts[i][0] == 'c') {
      FC_RETURN_IF_ERROR(ParseCorrection(parts[i].substr(1), &policy));
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("--policy: '", text, "': '+", parts[i],
                       "' is no modifier: +cN, +tT, +shared, +lent, "
                       "+profile, +pSHARE, +tail"));
    }
  }
  if (policy.tail && !policy.corrects && policy.predictor != "oracle") {
    return absl::InvalidArgumentError(
        absl::StrCat("--policy: '", text,
                     "': +tail comes with corrections, which need +c"));
  }
  return policy;
}

void Policy::Describe(v1::GenerateRequest* request) const {
  if (is_default) return;
  request->set_predictor(predictor);
  request->set_ema_alpha(static_cast<float>(alpha));
  request->set_probe_every(probe_every);
  request->set_correction_floor(correction_floor);
  if (traffic_target.has_value()) {
    request->set_traffic_target(*traffic_target);
  }
  request->set_no_tail(!tail);
  request->set_shared_scan(shared_scan);
  request->set_lent_corrections(lent);
  request->set_profiled_budget(profiled);
  request->set_probe_share(static_cast<float>(probe_share));
  if (!corrects) request->set_corrected_blocks(0);
  if (corrected.has_value()) request->set_corrected_blocks(*corrected);
}

}  // namespace forecache::eval
