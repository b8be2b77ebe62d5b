// Inputs for the cases: made from a seed, the same on every machine.
#ifndef FORECACHE_KERNELS_TESTING_DATA_H_
#define FORECACHE_KERNELS_TESTING_DATA_H_

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

#include "kernels/attention.h"
#include "kernels/block_scores.h"
#include "kernels/testing/cases.h"

namespace forecache {

struct FreeDeleter {
  void operator()(void* memory) const { std::free(memory); }
};
// Aligned to 64.
using AlignedBytes = std::unique_ptr<std::byte[], FreeDeleter>;
AlignedBytes MakeAligned(size_t bytes);

// Slots, page tables and queries of one case.  Slots are shuffled (in token
// order still, through the tables), the V part starts at an odd offset, queries
// and outputs are not aligned, and what no token owns is NaN: a kernel that
// reads it shows it.
//
// Threads: one thread at a time.
class AttentionData {
 public:
  explicit AttentionData(const AttentionCase& attention_case);

  // Arguments over all tokens, into the outputs below.
  DecodeAttention Decode();
  ChunkAttention Chunk();

  int kv_heads() const { return static_cast<int>(case_.tokens.size()); }
  int heads() const { return kv_heads() * case_.group; }
  size_t kv_bytes() const;  // that one pass over all tokens reads
  // Largest |q||k| scale: what logits may reach, for tolerances.
  double logit_bound() const { return logit_bound_; }
  double value_bound() const { return value_bound_; }

  const std::vector<PageTable>& tables() const { return tables_; }
  const float* q() const { return q_.data() + 1; }
  size_t out_size() const { return q_.size() - 1; }
  float* out() { return out_.data() + 1; }
  float* lse() { return lse_.data(); }
  std::vector<float>& page_max(int head) { return page_max_[head]; }
  const SlotMemory& memory() const { return memory_; }
  float scale() const { return scale_; }

 private:
  void FillSlots();

  const AttentionCase case_;
  SlotMemory memory_;
  AlignedBytes bytes_;
  float scale_ = 0;
  double logit_bound_ = 0;
  double value_bound_ = 0;
  std::vector<std::vector<int32_t>> slots_;
  std::vector<PageTable> tables_;
  std::vector<float> q_;
  std::vector<float> out_;
  std::vector<float> lse_;
  std::vector<std::vector<float>> page_max_;
  std::vector<float*> page_max_rows_;
};

// A K plane with channel outliers and a direction that some keys share, as the
// keys of language models have, and queries that look for some of them.
struct KeyPlane {
  explicit KeyPlane(const ScoreCase& score_case, uint64_t seed = 1);

  ExactScores Exact(float* block_max, float* lse) const;
  CodeScores Codes(const std::byte* code_plane, float* block_max,
                   float* lse) const;
  // Row stride of the scores.
  size_t row_stride() const { return size_t(shape.tokens) / 16 + 3; }

  ScoreCase shape;
  AlignedBytes keys;
  std::vector<float> q;  // [group][head_dim]
  float scale = 0;
  double logit_bound = 0;  // largest |q||k| scale
};

}  // namespace forecache

#endif  // FORECACHE_KERNELS_TESTING_DATA_H_
