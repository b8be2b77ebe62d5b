// The part of the Prefetcher that corrects within a token.

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/limits.h"
#include "common/status.h"
#include "worker/model/model_runtime.h"
#include "worker/prefetcher.h"

namespace forecache {
namespace {

// The sum of a row of [group][blocks] probabilities, a query head on average.
double SumRow(std::span<const float> row, int group) {
  return std::accumulate(row.begin(), row.end(), 0.0) / group;
}

}  // namespace

int Prefetcher::CorrectedBlocks() const {
  return options_.no_prefetch ? 0 : options_.budget.corrected;
}

int Prefetcher::CorrectedOf(int layer, int kv_head) const {
  const Budget& budget = options_.budget;
  if (budget.lends) return CorrectedBlocks();
  const int chosen =
      budget.BlocksOf(IndexOf(layer, kv_head)) - budget.Floor();
  return std::clamp(chosen, 0, CorrectedBlocks());
}

void Prefetcher::Correct(int layer, int position,
                         std::span<const float> query, LocalScores local) {
  auto advanced = MakeAdvanced(layer, position, query, std::move(local));
  Gate& gate = *gates_[layer];
  {
    absl::MutexLock lock(&gate.mutex);
    LetGoTail(&gate);  // of an earlier token, and too late for it
    gate.correction = position;
    gate.correcting = true;
    gate.missed = 1;  // until it tells
  }
  data_plane_->Post([this, alive = alive_, advanced] {
    if (*alive) StartCorrection(advanced);
  });
}

void Prefetcher::StartCorrection(std::shared_ptr<const Advanced> correction) {
  const Advanced& advanced = *correction;
  const int layer = advanced.layer;
  if (advanced.position > traffic_position_) {
    if (traffic_position_ >= 0) traffic_.EndToken();
    traffic_position_ = advanced.position;
  }
  Gate& gate = *gates_[layer];
  {
    // Too late, or before the bulk was chosen: then there is nothing to mend.
    // Nor is there when all there is, is here.
    absl::MutexLock lock(&gate.mutex);
    if (!gate.Chosen() || advanced.local.first_block == 0) {
      gate.correcting = false;
      gate.may_have_settled.SignalAll();
      if (advanced.local.first_block == 0) gate.missed = 0;
      return;
    }
  }
  const absl::Status offered = OfferSlots(advanced);
  if (!offered.ok()) return Fail(offered);
  const Budget& budget = options_.budget;
  const int stored = advanced.local.first_block;
  const int end = std::clamp(
      advanced.position / kBlockTokens - budget.recent, 0, stored);
  const CorrectRequest request{.layer = layer,
                               .blocks = stored,
                               .scale = scale_,
                               .q = advanced.query,
                               .local_lse = advanced.local.lse,
                               .first = std::min(budget.sinks, end),
                               .end = end,
                               .threshold = traffic_.floor(),
                               .wants_scores = options_.shared_scan,
                               .wants_tail = options_.tail,
                               .resident = residency_,
                               .slot_count = slot_counts_,
                               .slots = offered_};
  const size_t ticket = under_way_.Begin();
  auto sink = std::make_shared<CorrectionSink>(this, correction);
  const absl::StatusOr<uint64_t> sent = data_plane_->client()->Correct(
      session_, request, sink.get(),
      [this, alive = alive_, sink, correction,
       ticket](const absl::Status& end) {
        if (!*alive) return;
        under_way_.End(ticket);
        if (!end.ok() && !absl::IsDataLoss(end) && !absl::IsNotFound(end)) {
          return Fail(Annotate(end, "correction"));
        }
        EndCorrection(*correction);
      });
  if (sent.ok()) return under_way_.Sent(ticket, *sent);
  under_way_.End(ticket);
  TakeBackOffered(layer);
  Fail(Annotate(sent.status(), "correction"));
}

// What is held and where more may go, into residency_, slot_counts_ and
// offered_.
absl::Status Prefetcher::OfferSlots(const Advanced& advanced) {
  const int layer = advanced.layer;
  const int kv_heads = session_.geometry.kv_heads;
  const int stored = advanced.local.first_block;
  const size_t words = wire::ResidentWords(stored);
  residency_.assign(kv_heads * words, 0);
  slot_counts_.assign(kv_heads, 0);
  offered_.clear();
  for (int head = 0; head < kv_heads; ++head) {
    cache_->HeldBlocks(layer, head, &resident_);
    for (const int32_t block : resident_) {
      if (block >= stored) continue;
      residency_[head * words + block / 64] |= uint64_t{1} << (block % 64);
    }
    const size_t before = offered_.size();
    const absl::Status offered =
        cache_->Offer(layer, head, CorrectedOf(layer, head), &offered_);
    slot_counts_[head] = static_cast<uint32_t>(offered_.size() - before);
    // What goes round may be away: where layers do not wait for each other.
    if (!offered.ok() && !options_.budget.lends) return offered;
  }
  return absl::OkStatus();
}

void Prefetcher::TakeBackOffered(int layer) {
  size_t next = 0;
  for (size_t head = 0; head < slot_counts_.size(); ++head) {
    for (uint32_t i = 0; i < slot_counts_[head]; ++i) {
      cache_->TakeBack(layer, static_cast<int>(head), offered_[next++]);
    }
  }
}

void Prefetcher::EndCorrection(const Advanced& correction) {
  Gate& gate = *gates_[correction.layer];
  absl::MutexLock lock(&gate.mutex);
  if (gate.correction != correction.position) return;
  gate.correcting = false;
  gate.may_have_settled.SignalAll();
}

void Prefetcher::CorrectionSink::OnBlock(int layer,
                                         const wire::PushEntry& entry,
                                         ByteView k, ByteView v) {
  if (!*owner_->alive_) return;
  if (owner_->cache_->FillOffered(layer, entry, k, v)) ++owner_->corrected_;
}

void Prefetcher::CorrectionSink::OnSlotReturned(int layer, int kv_head,
                                                const wire::OfferedSlot& slot,
                                                const absl::Status& why) {
  owner_->cache_->TakeBack(layer, kv_head, slot);
  if (why.ok() || !*owner_->alive_ || absl::IsCancelled(why)) return;
  if (absl::IsDataLoss(why)) ++owner_->refused_;
  if (owner_->options_.late_policy == LatePolicy::kStrict) {
    owner_->Fail(Annotate(why, absl::StrCat("layer ", layer, ", KV head ",
                                            kv_head, ", correction")));
  }
}

void Prefetcher::CorrectionSink::OnCorrected(const CorrectResult& result) {
  if (*owner_->alive_) owner_->OnCorrected(*correction_, result);
}

void Prefetcher::OnCorrected(const Advanced& correction,
                             const CorrectResult& result) {
  CountProbe(result.blocks);
  for (const wire::CorrectedHead& head : result.heads) {
    traffic_.Count(static_cast<int>(head.used));
  }
  if (!result.tail.empty()) KeepTail(correction, result.tail);
  if (!options_.shared_scan || result.log_probability.empty()) return;
  const ProbeResult rows{.layer = result.layer,
                         .blocks = result.blocks,
                         .lse = result.lse,
                         .log_probability = result.log_probability};
  const KvGeometry& geometry = session_.geometry;
  double missed = 0;  // share of the mass, a KV head on average
  for (int head = 0; head < geometry.kv_heads; ++head) {
    ObserveRow(correction.local, &rows, result.layer, head);
    // Rows and replies have each block's largest probability.  A block's mass
    // is taken to be as many times that as it is for all blocks together.
    const double all = SumRow(row_, geometry.group);
    if (!(all > 0)) continue;
    const double of_head = result.heads[head].missing_mass / all;
    AddMissedMass(of_head);
    missed += of_head / geometry.kv_heads;
  }
  observed_[result.layer] = true;
  Gate& gate = *gates_[result.layer];
  absl::MutexLock lock(&gate.mutex);
  if (gate.correction == correction.position) gate.missed = missed;
}

void Prefetcher::KeepTail(const Advanced& correction, const TailView& view) {
  auto tail = std::make_unique<Tail>(view, correction.query);
  Gate& gate = *gates_[correction.layer];
  absl::MutexLock lock(&gate.mutex);
  if (gate.correction != correction.position) return;
  const size_t held = tails_held_ += tail->bytes();
  tails_most_ = std::max(tails_most_.load(), held);
  gate.tail = std::move(tail);
}

std::unique_ptr<Tail> Prefetcher::LetGoTail(Gate* gate) {
  if (gate->tail != nullptr) tails_held_ -= gate->tail->bytes();
  return std::move(gate->tail);
}

std::unique_ptr<Tail> Prefetcher::TakeTail(int layer) {
  Gate& gate = *gates_[layer];
  absl::MutexLock lock(&gate.mutex);
  return LetGoTail(&gate);
}

bool Prefetcher::IsUnsure(int layer) const {
  if (options_.auto_missed == 0) return false;
  const Gate& gate = *gates_[layer];
  absl::MutexLock lock(&gate.mutex);
  return gate.missed > options_.auto_missed;
}

}  // namespace forecache
