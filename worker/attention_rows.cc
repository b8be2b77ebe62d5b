// The part of the Prefetcher that turns scores into the predictor's rows.

#include <algorithm>
#include <cmath>

#include "common/half.h"
#include "worker/prefetcher.h"

namespace forecache {
namespace {

// exp(x) is below what a 16-bit history keeps: not worth computing.
constexpr float kNegligibleLogProbability = -16.0f;

float Probability(float log_probability) {
  return log_probability < kNegligibleLogProbability
             ? 0.0f
             : std::exp(log_probability);
}

// log(exp(a) + exp(b)); either may be -infinity.
float LogAdd(float a, float b) {
  const float high = std::max(a, b);
  if (std::isinf(high)) return high;
  return high + std::log1p(std::exp(std::min(a, b) - high));
}

}  // namespace

void Prefetcher::BuildRow(const Advanced& advanced, const ProbeResult* probe,
                          int kv_head) {
  const LocalScores& local = advanced.local;
  const int group = session_.geometry.group;
  const int stored = probe == nullptr ? 0 : probe->blocks;
  const int blocks = local.first_block + local.blocks;
  row_.assign(size_t(group) * blocks, 0.0f);
  for (int j = 0; j < group; ++j) {
    const size_t head = size_t(kv_head) * group + j;
    float* row = row_.data() + size_t(j) * blocks;
    float lse = local.lse[head];
    if (probe != nullptr) {
      lse = LogAdd(lse, probe->lse[head]);
      const float shift = probe->lse[head] - lse;
      const uint16_t* log_probability =
          probe->log_probability.data() + head * stored;
      for (int b = 0; b < stored; ++b) {
        row[b] = Probability(F16ToFloat(log_probability[b]) + shift);
      }
    }
    const float* block_max = local.block_max.data() + head * local.blocks;
    for (int b = 0; b < local.blocks; ++b) {
      row[local.first_block + b] = Probability(block_max[b] - lse);
    }
  }
}

// A row that knows the attended blocks only.
void Prefetcher::ObserveAttended(const Advanced& advanced, int kv_head) {
  const AttendedScores::Head& seen = advanced.attended.heads[kv_head];
  const int group = session_.geometry.group;
  const int blocks = advanced.local.first_block + advanced.local.blocks;
  const size_t pages = seen.blocks.size();
  row_.assign(size_t(group) * blocks, 0.0f);
  for (int j = 0; j < group; ++j) {
    const float lse = advanced.attended.lse[size_t(kv_head) * group + j];
    for (size_t page = 0; page < pages; ++page) {
      row_[size_t(j) * blocks + seen.blocks[page]] =
          Probability(seen.block_max[j * pages + page] - lse);
    }
  }
  predictor_->Observe(advanced.layer, kv_head,
                      {.probabilities = row_,
                       .blocks = blocks,
                       .seen = seen.blocks});
}

void Prefetcher::CountMissed(const Advanced& advanced, int kv_head,
                             const AttentionRow& row) {
  // Missed: among the best of this very row, as many as the budget may choose,
  // and not resident when attention ran.
  Predictor* hindsight = predictor_.get();
  if (hindsight_ != nullptr) {
    hindsight = hindsight_.get();
    hindsight->Observe(advanced.layer, kv_head, row);
  }
  const Budget& budget = options_.budget;
  const int now = advanced.position / kBlockTokens;
  const int end = std::max(now - budget.recent, 0);
  const int first = std::min(budget.sinks, end);
  const int count = std::max(budget.blocks - first - (now - end) - 1, 0);
  hindsight->Predict(advanced.layer, kv_head, {first, end}, count, &choices_);
  cache_->ReadyBlocks(advanced.layer, kv_head, &resident_);
  for (const BlockChoice& choice : choices_) {
    if (!std::binary_search(resident_.begin(), resident_.end(),
                            choice.block)) {
      ++missed_;
    }
  }
}

}  // namespace forecache
