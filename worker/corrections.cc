// The part of the Prefetcher that corrects within a token.

#include <algorithm>
#include <utility>

#include "common/limits.h"
#include "common/status.h"
#include "predictor/selection.h"
#include "worker/model/model_runtime.h"
#include "worker/prefetcher.h"

namespace forecache {

int Prefetcher::CorrectedBlocks(int layer) const {
  // No query is estimated for the first layers.
  if (layer < kQueryAheadLayers && !options_.oracle) return 0;
  if (options_.no_prefetch) return 0;
  return options_.budget.corrected;
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
    if (*alive) StartCorrection(advanced);
  });
}

void Prefetcher::StartCorrection(std::shared_ptr<Advanced> advanced) {
  const int stored = advanced->local.first_block;
  if (stored == 0) {  // all there is, is here
    EndCorrection(advanced->layer);
    return;
  }
  const absl::Status sent = data_plane_->client()->Probe(
      session_, advanced->layer, stored, scale_, advanced->query,
      [this, alive = alive_,
       advanced](const absl::StatusOr<ProbeResult>& result) {
        if (!*alive) return;
        if (!result.ok()) {
          Fail(Annotate(result.status(), "correction"));
          return;
        }
        OnCorrection(*advanced, *result);
      });
  if (!sent.ok()) Fail(Annotate(sent, "correction"));
}

void Prefetcher::OnCorrection(const Advanced& advanced,
                              const ProbeResult& probe) {
  const int layer = advanced.layer;
  CountProbe(probe);
  Gate& gate = *gates_[layer];
  {
    // Too late, or before the bulk was chosen: then there is nothing to mend.
    absl::MutexLock lock(&gate.mutex);
    if (!gate.Chosen()) {
      gate.correcting = false;
      return;
    }
  }
  std::vector<wire::FetchEntry> missing;
  for (int head = 0; head < session_.geometry.kv_heads; ++head) {
    BuildRow(advanced, &probe, head);
    ChooseCorrections(advanced, head);
    const absl::Status status = cache_->Extend(layer, head, wanted_, &missing);
    if (!status.ok()) {
      Fail(status);
      return;
    }
  }
  if (missing.empty()) {
    EndCorrection(layer);
    return;
  }
  corrected_ += missing.size();
  absl::StatusOr<uint64_t> request = data_plane_->client()->Fetch(
      session_, layer, missing, &correction_sink_,
      [this, alive = alive_, layer](const absl::Status& end) {
        if (!*alive) return;
        if (!end.ok() && !absl::IsDataLoss(end) && !absl::IsNotFound(end)) {
          Fail(Annotate(end, "correction"));
          return;
        }
        EndCorrection(layer);
      });
  if (!request.ok()) {
    Fail(Annotate(request.status(), "correction"));
    return;
  }
  Remember(*request);
}

// The best blocks for the estimated query that are not held, into wanted_.
void Prefetcher::ChooseCorrections(const Advanced& advanced, int kv_head) {
  const Budget& budget = options_.budget;
  const int now = advanced.position / kBlockTokens;
  const int end = std::max(
      std::min(now - budget.recent, advanced.local.first_block), 0);
  const int first = std::min(budget.sinks, end);
  const int blocks = advanced.local.first_block + advanced.local.blocks;
  means_.resize(end - first);
  MeanOverGroup({.probabilities = row_, .blocks = blocks},
                session_.geometry.group, first, end - first, means_.data());
  cache_->HeldBlocks(advanced.layer, kv_head, &resident_);
  for (int32_t block : resident_) {
    if (block >= first && block < end) means_[block - first] = -1;
  }
  wanted_.clear();
  for (int block = first; block < end; ++block) {
    if (means_[block - first] > 0) wanted_.push_back(block);
  }
  const size_t count = std::min<size_t>(
      wanted_.size(), CorrectedBlocks(advanced.layer));
  std::partial_sort(wanted_.begin(), wanted_.begin() + count, wanted_.end(),
                    [&](int32_t a, int32_t b) {
                      return means_[a - first] > means_[b - first];
                    });
  wanted_.resize(count);
}

void Prefetcher::EndCorrection(int layer) {
  Gate& gate = *gates_[layer];
  absl::MutexLock lock(&gate.mutex);
  gate.correcting = false;
}

void Prefetcher::CorrectionSink::OnBlock(int layer,
                                         const wire::PushEntry& entry,
                                         ByteView k, ByteView v) {
  if (*owner_->alive_) owner_->cache_->Fill(layer, entry, k, v);
}

void Prefetcher::CorrectionSink::OnBlockFailed(int layer,
                                               const wire::FetchEntry& entry,
                                               const absl::Status& why) {
  owner_->BlockFailed(layer, entry, why);
}

}  // namespace forecache
