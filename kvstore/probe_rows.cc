#include "kvstore/probe_rows.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "common/check.h"
#include "common/half.h"
#include "common/limits.h"
#include "common/target_clones.h"
#include "kernels/small_exp.h"

namespace forecache {
namespace {

// exp(-16) of a whole is less than an f16 score can tell from nothing.
constexpr float kNegligible = -16;

inline float LargestOf(const float* run) {
  float lanes[4] = {run[0], run[1], run[2], run[3]};
  for (int i = 4; i < kRowRun; i += 4) {
    for (int j = 0; j < 4; ++j) lanes[j] = std::max(lanes[j], run[i + j]);
  }
  return std::max(std::max(lanes[0], lanes[1]), std::max(lanes[2], lanes[3]));
}

}  // namespace

FC_CLONES void WriteLogProbabilities(const float* row, float lse, int blocks,
                                     std::byte* out) {
  if (lse == kNoScore) lse = 0;  // nothing was scored: the row is -infinity
  int block = 0;
  uint16_t run[kRowRun];
  for (; block + kRowRun <= blocks; block += kRowRun) {
    for (int i = 0; i < kRowRun; ++i) {
      run[i] = NumberToF16(row[block + i] - lse);
    }
    std::memcpy(out + 2 * block, run, sizeof(run));
  }
  for (; block < blocks; ++block) {
    const uint16_t bits = NumberToF16(row[block] - lse);
    std::memcpy(out + 2 * block, &bits, sizeof(bits));
  }
}

FC_CLONES void MergeGroup(const float* rows, size_t stride,
                          std::span<const float> lse, float* merged) {
  std::fill_n(merged, stride, 0.0f);
  const float share = 1.0f / static_cast<float>(lse.size());
  for (size_t g = 0; g < lse.size(); ++g) {
    if (lse[g] == kNoScore) continue;
    const float* row = rows + g * stride;
    const float least = lse[g] + kNegligible;
    for (size_t first = 0; first < stride; first += kRowRun) {
      if (LargestOf(row + first) <= least) continue;
      for (int i = 0; i < kRowRun; ++i) {
        const float x = row[first + i] - lse[g];
        const float p = SmallExp(std::max(x, kNegligible)) * share;
        merged[first + i] += x > kNegligible ? p : 0.0f;
      }
    }
  }
}

BestBlocks PickBest(const float* merged, int first, int end, float threshold,
                    std::span<uint32_t> picks) {
  FC_CHECK(picks.size() <= kCorrectionSlotsMax) << picks.size();
  const int limit = static_cast<int>(picks.size());
  float scores[kCorrectionSlotsMax];
  BestBlocks best;
  // What is not above it is neither picked nor the best that is left.
  float floor = 0;
  auto take = [&](int block) {
    const float score = merged[block];
    if (score < threshold || limit == 0) {
      best.best_left = std::max(best.best_left, score);
    } else if (best.count == limit && score <= scores[limit - 1]) {
      best.best_left = std::max(best.best_left, score);
    } else {
      if (best.count == limit) {
        best.best_left = std::max(best.best_left, scores[--best.count]);
      }
      int at = best.count++;
      for (; at > 0 && scores[at - 1] < score; --at) {
        scores[at] = scores[at - 1];
        picks[at] = picks[at - 1];
      }
      scores[at] = score;
      picks[at] = static_cast<uint32_t>(block);
    }
    floor = best.best_left;
  };
  for (int block = first; block < end;) {
    const int stop = std::min(end, (block / kRowRun + 1) * kRowRun);
    const float* run = merged + block / kRowRun * kRowRun;
    if (LargestOf(run) > floor) {
      for (; block < stop; ++block) {
        if (merged[block] > floor) take(block);
      }
    }
    block = stop;
  }
  for (int i = 0; i < best.count; ++i) best.picked += scores[i];
  return best;
}

FC_CLONES double ClearResident(std::span<const uint64_t> resident,
                               size_t stride, float* merged) {
  for (size_t word = 0; word < resident.size(); ++word) {
    for (uint64_t bits = resident[word]; bits != 0; bits &= bits - 1) {
      const size_t block = word * 64 + std::countr_zero(bits);
      if (block < stride) merged[block] = 0;
    }
  }
  double sum = 0;
  for (size_t first = 0; first < stride; first += kRowRun) {
    float lanes[4] = {};
    for (int i = 0; i < kRowRun; i += 4) {
      for (int j = 0; j < 4; ++j) lanes[j] += merged[first + i + j];
    }
    sum += (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
  }
  return sum;
}

}  // namespace forecache
