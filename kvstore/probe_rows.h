// Arithmetic on rows of block scores: what a probe does behind its scans.
//
// Rows are padded to whole runs of 16 blocks, so that loops have a fixed
// length, which is what lets the compiler keep them in vector registers.
#ifndef FORECACHE_KVSTORE_PROBE_ROWS_H_
#define FORECACHE_KVSTORE_PROBE_ROWS_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace forecache {

inline constexpr int kRowRun = 16;
inline constexpr float kNoScore = -std::numeric_limits<float>::infinity();

// Floats that a row of `blocks` scores takes.
inline constexpr size_t RowStride(size_t blocks) {
  return (blocks + kRowRun - 1) / kRowRun * kRowRun;
}

// Writes `blocks` log-probabilities row[b] - lse as f16, the same bits as
// FloatToF16 gives.  `out` may have any alignment.
// REQUIRES: row has RowStride(blocks) floats.
void WriteLogProbabilities(const float* row, float lse, int blocks,
                           std::byte* out);

// merged[b] = mean over the rows of exp(row[b] - lse), for `group` rows that
// lie `stride` apart.  A block that is less than e^-16 of everything for a head
// counts as 0 there.  Relative error below 2e-6.
// REQUIRES: stride % 16 == 0.
void MergeGroup(const float* rows, size_t stride, std::span<const float> lse,
                float* merged);

// The best of a row of merged probabilities.
struct BestBlocks {
  int count = 0;
  float best_left = 0;  // the best that was not picked
  double picked = 0;    // the sum of what was picked
};

// Picks at most picks.size() blocks of [first, end), best first, whose
// probability is above 0 and at least `threshold`.
// REQUIRES: merged is padded with 0 to whole runs.
BestBlocks PickBest(const float* merged, int first, int end, float threshold,
                    std::span<uint32_t> picks);

// Sets what is resident to 0.  Returns the sum of the rest.
double ClearResident(std::span<const uint64_t> resident, size_t stride,
                     float* merged);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_PROBE_ROWS_H_
