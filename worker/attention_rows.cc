// The part of the Prefetcher that turns scores into the predictor's rows.

#include <algorithm>
#include <cmath>

#include "common/log_add_exp.h"
#include "kernels/block_scores.h"
#include "worker/prefetcher.h"

namespace forecache {
namespace {

float Probability(float log_probability) {
  return log_probability < kNegligibleLogProbability
             ? 0.0f
             : std::exp(log_probability);
}

}  // namespace

void Prefetcher::BuildRow(const LocalScores& local, const ProbeResult* probe,
                          int kv_head) {
  const int group = session_.geometry.group;
  const int stored = probe == nullptr ? 0 : probe->blocks;
  const int blocks = local.first_block + local.blocks;
  row_.assign(size_t(group) * blocks, 0.0f);
  for (int j = 0; j < group; ++j) {
    const size_t head = size_t(kv_head) * group + j;
    float* row = row_.data() + size_t(j) * blocks;
    float lse = local.lse[head];
    if (probe != nullptr) {
      lse = LogAddExp(lse, probe->lse[head]);
      BlockProbabilities(probe->log_probability.data() + head * stored,
                         probe->lse[head] - lse, stored, row);
    }
    const float* block_max = local.block_max.data() + head * local.blocks;
    for (int b = 0; b < local.blocks; ++b) {
      row[local.first_block + b] = Probability(block_max[b] - lse);
    }
  }
}

void Prefetcher::ObserveRow(const LocalScores& local, const ProbeResult* probe,
                            int layer, int kv_head) {
  BuildRow(local, probe, kv_head);
  const AttentionRow row{.probabilities = row_,
                         .blocks = local.first_block + local.blocks};
  const Nanos started = Clock::Real()->Now();
  predictor_->Observe(layer, kv_head, row);
  predict_time_ += Clock::Real()->Now() - started;
  if (hindsight_ != nullptr) hindsight_->Observe(layer, kv_head, row);
}

// A row that knows the attended blocks only.
void Prefetcher::ObserveAttended(const Advanced& advanced, int kv_head) {
  const AttendedScores::Head& seen = advanced.attended.heads[kv_head];
  const int group = session_.geometry.group;
  const int blocks = advanced.local.first_block + advanced.local.blocks;
  const size_t pages = seen.blocks.size();
  row_.assign(size_t(group) * blocks, 0.0f);
  for (int j = 0; j < group; ++j) {
    const float lse =
        advanced.attended.lse_with_tail[size_t(kv_head) * group + j];
    for (size_t page = 0; page < pages; ++page) {
      row_[size_t(j) * blocks + seen.blocks[page]] =
          Probability(seen.block_max[j * pages + page] - lse);
    }
  }
  const Nanos started = Clock::Real()->Now();
  predictor_->Observe(advanced.layer, kv_head,
                      {.probabilities = row_,
                       .blocks = blocks,
                       .seen = seen.blocks});
  predict_time_ += Clock::Real()->Now() - started;
}

// Missed: among the best of the row that was observed last, as many as the
// budget may choose, and not resident when attention ran.
void Prefetcher::CountMissed(const Advanced& advanced, int kv_head) {
  Predictor* const hindsight =
      hindsight_ == nullptr ? predictor_.get() : hindsight_.get();
  const Budget& budget = options_.budget;
  const int now = advanced.position / kBlockTokens;
  const int end = std::max(now - budget.recent, 0);
  const int first = std::min(budget.sinks, end);
  const int count =
      std::max(budget.BlocksOf(IndexOf(advanced.layer, kv_head)) - first -
                   (now - end) - 1,
               0);
  hindsight->Predict(advanced.layer, kv_head, {first, end}, count, &choices_);
  cache_->ReadyBlocks(advanced.layer, kv_head, &resident_);
  for (const BlockChoice& choice : choices_) {
    if (!std::binary_search(resident_.begin(), resident_.end(),
                            choice.block)) {
      ++missed_;
    }
  }
}

// With the token's own query: what is not among the resident blocks' share.
void Prefetcher::CountMissedMass(const Advanced& advanced,
                                 const ProbeResult& probe, int kv_head) {
  if (advanced.attended.lse.empty()) return;  // the first: nothing attended
  const int group = session_.geometry.group;
  double missed = 0;
  for (int j = 0; j < group; ++j) {
    const size_t head = size_t(kv_head) * group + j;
    const float all = LogAddExp(advanced.local.lse[head], probe.lse[head]);
    missed += -std::expm1(advanced.attended.lse[head] - all) / group;
  }
  AddMissedMass(missed);
}

void Prefetcher::AddMissedMass(double missed) {
  // Scans go by codes, so that a head that misses nothing may seem to hold
  // more than all there is.
  missed = std::clamp(missed, 0.0, 1.0);
  ++mass_known_;
  mass_missed_ += missed;
  if (missed > mass_missed_worst_) mass_missed_worst_ = missed;
}

}  // namespace forecache
