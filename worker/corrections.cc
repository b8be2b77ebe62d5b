// The part of the Prefetcher that corrects within a token.

#include <algorithm>
#include <utility>

#include "common/limits.h"
#include "common/status.h"
#include "worker/model/model_runtime.h"
#include "worker/prefetcher.h"

namespace forecache {

int Prefetcher::CorrectedBlocks() const {
  return options_.no_prefetch ? 0 : options_.budget.corrected;
}

void Prefetcher::Correct(int layer, int position,
                         std::span<const float> query, LocalScores local) {
  auto advanced = MakeAdvanced(layer, position, query, std::move(local));
  Gate& gate = *gates_[layer];
  {
    absl::MutexLock lock(&gate.mutex);
    gate.correcting = true;
  }
  data_plane_->Post([this, alive = alive_, advanced] {
    if (*alive) StartCorrection(*advanced);
  });
}

void Prefetcher::StartCorrection(const Advanced& advanced) {
  const int layer = advanced.layer;
  Gate& gate = *gates_[layer];
  {
    // Too late, or before the bulk was chosen: then there is nothing to mend.
    // Nor is there when all there is, is here.
    absl::MutexLock lock(&gate.mutex);
    if (!gate.Chosen() || advanced.local.first_block == 0) {
      gate.correcting = false;
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
                               .threshold = budget.correction_floor,
                               .resident = residency_,
                               .slot_count = slot_counts_,
                               .slots = offered_};
  const size_t ticket = under_way_.Begin();
  const absl::StatusOr<uint64_t> sent = data_plane_->client()->Correct(
      session_, request, &correction_sink_,
      [this, alive = alive_, layer, ticket](const absl::Status& end) {
        if (!*alive) return;
        under_way_.End(ticket);
        if (!end.ok() && !absl::IsDataLoss(end) && !absl::IsNotFound(end)) {
          return Fail(Annotate(end, "correction"));
        }
        EndCorrection(layer);
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
  slot_counts_.assign(kv_heads, CorrectedBlocks());
  offered_.clear();
  for (int head = 0; head < kv_heads; ++head) {
    cache_->HeldBlocks(layer, head, &resident_);
    for (const int32_t block : resident_) {
      if (block >= stored) continue;
      residency_[head * words + block / 64] |= uint64_t{1} << (block % 64);
    }
    FC_RETURN_IF_ERROR(
        cache_->Offer(layer, head, CorrectedBlocks(), &offered_));
  }
  return absl::OkStatus();
}

void Prefetcher::TakeBackOffered(int layer) {
  for (size_t i = 0; i < offered_.size(); ++i) {
    const int head = static_cast<int>(i) / CorrectedBlocks();
    cache_->TakeBack(layer, head, offered_[i]);
  }
}

void Prefetcher::EndCorrection(int layer) {
  Gate& gate = *gates_[layer];
  absl::MutexLock lock(&gate.mutex);
  gate.correcting = false;
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
  if (*owner_->alive_) owner_->CountProbe(result.blocks);
}

}  // namespace forecache
