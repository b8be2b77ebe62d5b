#include "worker/prefetcher.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache {
namespace {

// What is here keeps its place at most so far down the predictor's ranks, in
// numbers of blocks that may be chosen.
constexpr int kHeldRanks = 4;

std::unique_ptr<Predictor> MakeHindsight(const KvGeometry& geometry) {
  absl::StatusOr<std::unique_ptr<Predictor>> last = MakePredictor(
      {.name = "last",
       .shape = {geometry.layers, geometry.kv_heads, geometry.group}});
  FC_CHECK(last.ok()) << last.status().ToString();
  return *std::move(last);
}

}  // namespace

Prefetcher::Prefetcher(const SessionHandle& session,
                       const PrefetchOptions& options, float scale,
                       std::unique_ptr<Predictor> predictor,
                       ResidentCache* cache, DataPlaneThread* data_plane,
                       SessionFault* fault)
    : session_(session),
      options_(options),
      scale_(scale),
      predictor_(std::move(predictor)),
      hindsight_(predictor_->Name() == "last"
                     ? nullptr
                     : MakeHindsight(session.geometry)),
      wants_attended_(!options.shared_scan &&
                      (options.probe_every > 1 ||
                       predictor_->WantsAttended())),
      cache_(cache),
      data_plane_(data_plane),
      fault_(fault),
      observed_(session.geometry.layers),
      traffic_(options.budget.traffic_target,
               session.geometry.layers * session.geometry.kv_heads,
               options.budget.correction_floor) {
  for (int layer = 0; layer < session.geometry.layers; ++layer) {
    gates_.push_back(std::make_unique<Gate>());
  }
}

Prefetcher::~Prefetcher() {
  data_plane_->Run([this] {
    *alive_ = false;
    for (const uint64_t request : under_way_.Ids()) {
      data_plane_->client()->Cancel(request);
    }
  });
}

std::shared_ptr<Prefetcher::Advanced> Prefetcher::MakeAdvanced(
    int layer, int position, std::span<const float> query, LocalScores local) {
  auto advanced = std::make_shared<Advanced>();
  advanced->layer = layer;
  advanced->position = position;
  advanced->query.assign(query.begin(), query.end());
  advanced->local = std::move(local);
  return advanced;
}

void Prefetcher::Advance(int layer, int position,
                         std::span<const float> query, LocalScores local,
                         AttendedScores attended,
                         std::span<const float> key) {
  auto advanced = MakeAdvanced(layer, position, query, std::move(local));
  advanced->attended = std::move(attended);
  advanced->key.assign(key.begin(), key.end());
  Gate& gate = *gates_[layer];
  {
    absl::MutexLock lock(&gate.mutex);
    gate.turn = Turn::kPredicting;
    advanced->round = ++gate.round;
    gate.requested = gate.arrived = gate.failed = 0;
  }
  data_plane_->Post([this, alive = alive_, advanced] {
    if (*alive) StartProbe(advanced);
  });
}

bool Prefetcher::WantsProbe(const Advanced& advanced) const {
  if (!predictor_->WantsProbe(advanced.layer)) return false;
  // The first row, the prompt's last, is always whole.
  if (advanced.round == 1) return true;
  // What the store does not have, no correction scans.
  if (options_.shared_scan) return advanced.local.first_block == 0;
  return (advanced.round - 1) % options_.probe_every == 0;
}

// What a predictor may know of a token without any row.
void Prefetcher::ObserveToken(const Advanced& advanced) {
  const KvGeometry& geometry = session_.geometry;
  for (int head = 0; head < geometry.kv_heads; ++head) {
    if (!advanced.key.empty()) {
      predictor_->ObserveKeys(
          advanced.layer, head, advanced.position / kBlockTokens,
          std::span(advanced.key)
              .subspan(size_t{1} * head * geometry.head_dim,
                       geometry.head_dim));
    }
    if (predictor_->WantsQueries()) {
      const size_t size = size_t{1} * geometry.group * geometry.head_dim;
      predictor_->ObserveQuery(
          advanced.layer, head,
          std::span(advanced.query).subspan(head * size, size));
    }
  }
}

void Prefetcher::CountProbe(int blocks) {
  probe_key_bytes_ += uint64_t(blocks) * session_.geometry.kv_heads *
                      session_.geometry.PartBytes();
}

void Prefetcher::StartProbe(std::shared_ptr<Advanced> advanced) {
  const int layer = advanced->layer;
  const int stored = advanced->local.first_block;
  ObserveToken(*advanced);
  if (!WantsProbe(*advanced) || stored == 0) {
    OnProbe(*advanced, nullptr);
    return;
  }
  const size_t ticket = under_way_.Begin();
  const absl::StatusOr<uint64_t> sent = data_plane_->client()->Probe(
      session_, layer, stored, scale_, advanced->query,
      [this, alive = alive_, advanced,
       ticket](const absl::StatusOr<ProbeResult>& result) {
        if (!*alive) return;
        under_way_.End(ticket);
        if (!result.ok()) {
          Fail(Annotate(result.status(), "probe"));
          return;
        }
        CountProbe(result->blocks);
        OnProbe(*advanced, &*result);
      });
  if (sent.ok()) return under_way_.Sent(ticket, *sent);
  under_way_.End(ticket);
  Fail(Annotate(sent.status(), "probe"));
}

void Prefetcher::OnProbe(const Advanced& advanced, const ProbeResult* probe) {
  const KvGeometry& geometry = session_.geometry;
  Gate& gate = *gates_[advanced.layer];
  bool may_choose;
  {
    // When attention did not wait, the layer is its own again: then these rows
    // are history, and which blocks are resident must not change.
    absl::MutexLock lock(&gate.mutex);
    may_choose =
        gate.turn == Turn::kPredicting && gate.round == advanced.round;
  }
  // Without a probe nothing is known of blocks that were not attended; a row
  // that is all local (a short context) is complete.
  const bool complete =
      probe != nullptr ||
      (advanced.local.first_block == 0 && WantsProbe(advanced));
  std::vector<wire::FetchEntry> missing;
  Clock* const clock = Clock::Real();
  for (int head = 0; head < geometry.kv_heads; ++head) {
    if (complete) {
      ObserveRow(advanced.local, probe, advanced.layer, head);
    } else if (!advanced.attended.heads.empty()) {
      ObserveAttended(advanced, head);
    }
    if (complete || observed_[advanced.layer]) CountMissed(advanced, head);
    if (probe != nullptr) CountMissedMass(advanced, *probe, head);
    if (!may_choose) continue;
    const Nanos started = clock->Now();
    ChooseBlocks(advanced, head);
    predict_time_ += clock->Now() - started;
    const absl::Status status =
        cache_->Retarget(advanced.layer, head, wanted_, &missing);
    if (!status.ok()) {
      Fail(status);
      return;
    }
  }
  observed_[advanced.layer] = false;
  history_bytes_ = predictor_->HistoryBytes() +
                   (hindsight_ == nullptr ? 0 : hindsight_->HistoryBytes());
  if (may_choose) StartFetch(advanced.layer, std::move(missing));
}

void Prefetcher::ChooseBlocks(const Advanced& advanced, int kv_head) {
  const Budget& budget = options_.budget;
  // The block that the next token belongs to; the ones before are whole.
  const int now = (advanced.position + 1) / kBlockTokens;
  // Blocks that the store has not acknowledged live here only.
  const int unstored = advanced.local.first_block;
  const int window = std::max(std::min(now - budget.recent, unstored), 0);
  const int sinks = std::min(budget.sinks, window);
  const int taken = sinks + (now - window) + 1 +
                    (budget.lends ? 0 : CorrectedOf(advanced.layer, kv_head));
  const int count = std::max(
      budget.BlocksOf(IndexOf(advanced.layer, kv_head)) - taken, 0);
  const float margin = traffic_.margin();
  predictor_->Predict(advanced.layer, kv_head, {sinks, window},
                      margin > 0 ? kHeldRanks * count : count, &choices_);
  if (margin > 0) PreferHeld(advanced.layer, kv_head, margin, count);
  wanted_.clear();
  for (int block = 0; block < sinks; ++block) wanted_.push_back(block);
  for (const BlockChoice& choice : choices_) wanted_.push_back(choice.block);
  std::sort(wanted_.begin(), wanted_.end());
  for (int block = window; block < now; ++block) wanted_.push_back(block);
}

void Prefetcher::PreferHeld(int layer, int kv_head, float margin, int count) {
  cache_->HeldBlocks(layer, kv_head, &resident_);
  for (BlockChoice& choice : choices_) {
    if (std::binary_search(resident_.begin(), resident_.end(), choice.block)) {
      choice.confidence += margin;
    }
  }
  std::stable_sort(choices_.begin(), choices_.end(),
                   [](const BlockChoice& a, const BlockChoice& b) {
                     return a.confidence > b.confidence;
                   });
  choices_.resize(std::min(choices_.size(), static_cast<size_t>(count)));
}

void Prefetcher::StartFetch(int layer, std::vector<wire::FetchEntry> missing) {
  Gate& gate = *gates_[layer];
  {
    absl::MutexLock lock(&gate.mutex);
    // The first blocks of all are a load, not a move.
    if (gate.round > 1) traffic_.Count(static_cast<int>(missing.size()));
    gate.requested = static_cast<int>(missing.size());
    gate.turn = missing.empty() ? Turn::kReady : Turn::kFetching;
    if (missing.empty()) gate.may_have_settled.SignalAll();
    if (options_.no_prefetch) {
      gate.held = std::move(missing);
      return;
    }
  }
  if (!missing.empty()) SendFetch(layer, missing);
}

void Prefetcher::SendFetch(int layer,
                           const std::vector<wire::FetchEntry>& missing) {
  Gate& gate = *gates_[layer];
  uint64_t round;
  {
    absl::MutexLock lock(&gate.mutex);
    round = gate.round;
  }
  const size_t ticket = under_way_.Begin();
  absl::StatusOr<uint64_t> request = data_plane_->client()->Fetch(
      session_, layer, missing, this,
      [this, alive = alive_, layer, round, ticket](const absl::Status& end) {
        if (!*alive) return;
        under_way_.End(ticket);
        if (!end.ok() && !absl::IsDataLoss(end) && !absl::IsNotFound(end)) {
          Fail(Annotate(end, "fetch"));
          return;
        }
        Gate& gate = *gates_[layer];
        absl::MutexLock lock(&gate.mutex);
        if (gate.turn == Turn::kFetching && gate.round == round) {
          gate.turn = Turn::kReady;
          gate.may_have_settled.SignalAll();
        }
      });
  if (request.ok()) return under_way_.Sent(ticket, *request);
  under_way_.End(ticket);
  Fail(Annotate(request.status(), "fetch"));
}

void Prefetcher::OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
                         ByteView v) {
  if (!*alive_) return;
  if (!cache_->Fill(layer, entry, k, v)) return;
  Gate& gate = *gates_[layer];
  absl::MutexLock lock(&gate.mutex);
  ++gate.arrived;
}

void Prefetcher::OnBlockFailed(int layer, const wire::FetchEntry& entry,
                               const absl::Status& why) {
  if (!BlockFailed(layer, entry, why)) return;
  Gate& gate = *gates_[layer];
  absl::MutexLock lock(&gate.mutex);
  ++gate.failed;
}

// Whether the block will not come.
bool Prefetcher::BlockFailed(int layer, const wire::FetchEntry& entry,
                             const absl::Status& why) {
  if (!*alive_ || absl::IsCancelled(why)) return false;
  if (absl::IsUnavailable(why) || absl::IsDeadlineExceeded(why)) {
    // One store of several: it may come back.  Where it is the only one, the
    // fetch ends with the same error, and with it the session.
    cache_->Withdraw(layer, entry);
  } else if (absl::IsDataLoss(why) || absl::IsNotFound(why)) {
    if (absl::IsDataLoss(why)) ++refused_;
    cache_->MarkLost(layer, entry);
  } else {
    return false;
  }
  if (options_.late_policy == LatePolicy::kStrict) {
    Fail(Annotate(why, absl::StrCat("layer ", layer, ", KV head ",
                                    entry.kv_head, ", block ", entry.block)));
  }
  return true;
}

void Prefetcher::Fail(const absl::Status& why) {
  fault_->Set(why);
  for (auto& gate : gates_) {  // nobody must wait for what will not come
    absl::MutexLock lock(&gate->mutex);
    if (gate->turn != Turn::kAttention) gate->turn = Turn::kReady;
    gate->correcting = false;
    gate->may_have_settled.SignalAll();
  }
}

absl::Status Prefetcher::AskForHeld(int layer) {
  Gate& gate = *gates_[layer];
  std::vector<wire::FetchEntry> held;
  {
    absl::MutexLock lock(&gate.mutex);
    gate.mutex.Await(absl::Condition(&gate, &Gate::Chosen));
    held.swap(gate.held);
  }
  FC_RETURN_IF_ERROR(fault_->status());
  if (held.empty()) return absl::OkStatus();
  data_plane_->Post([this, alive = alive_, layer, held = std::move(held)] {
    if (*alive) SendFetch(layer, held);
  });
  return absl::OkStatus();
}

PrefetchCounters Prefetcher::counters() const {
  return {.predicted = predicted_,
          .in_time = in_time_,
          .late = late_,
          .missed = missed_,
          .refused = refused_,
          .corrected = corrected_,
          .corrections_late = corrections_late_,
          .probe_key_bytes = probe_key_bytes_,
          .mass_known = mass_known_,
          .mass_missed = mass_missed_,
          .mass_missed_worst = mass_missed_worst_,
          .predict_time = predict_time_};
}

size_t Prefetcher::gate_bytes() const {
  return gates_.size() * (sizeof(Gate) + sizeof(void*));
}

}  // namespace forecache
