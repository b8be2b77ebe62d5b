// Scores of blocks against a query: what a probe computes, near the data.
//
// The score of a block for one query head is the largest scaled logit q.k of
// its 16 keys.  With it comes the log-sum-exp over all the keys scanned, so
// that scores from several places merge.  Logarithms are natural.
//
// Two sources: exact keys (a K plane, 16-bit floats) and key codes (a code
// plane, 4 bits a channel).  Planes are contiguous: tokens follow each other.
// kernels/code_scan.h scans many code planes at once, of other kinds too.
#ifndef FORECACHE_KERNELS_BLOCK_SCORES_H_
#define FORECACHE_KERNELS_BLOCK_SCORES_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "common/half.h"
#include "kernels/isa.h"

namespace forecache {

inline constexpr int kScoreBlockTokens = 16;
inline constexpr int kCodePlaneTokens = 256;  // of a segment
inline constexpr int kCodePlaneBlocks = kCodePlaneTokens / kScoreBlockTokens;

// Exact scores over a K plane [tokens][head_dim].
struct ExactScores {
  const std::byte* keys = nullptr;  // aligned to 64
  KvType type = KvType::kF16;
  int tokens = 0;                   // the last block may be partial
  int head_dim = 0;
  int group = 0;                    // query heads
  const float* q = nullptr;         // [group][head_dim], unscaled
  float scale = 0;
  float* block_max = nullptr;       // [group] rows, `row_stride` apart
  size_t row_stride = 0;            // floats from one head's row to the next
  float* lse = nullptr;             // [group], -inf without tokens
};
void ExactScoresRef(const ExactScores& args);
void ExactScoresCpu(const ExactScores& args);

// A code plane: a compact copy of the keys of one segment (256 tokens, full)
// of one (layer, KV head).  k[t][c] ~ low[c] + scale[c] * code[t][c], with
// codes of 4 bits; low is the channel's smallest key, low + 15 * scale its
// largest.  The layout of the bytes is in kernels/code_plane.h.
size_t CodePlaneBytes(int head_dim);

// Makes the code plane of 256 keys [256][head_dim].  Deterministic: the same
// keys give the same bytes on every CPU.  `code_plane` is aligned to 64.
// REQUIRES: the keys are finite.
void EncodeCodePlaneRef(const std::byte* keys, KvType type, int head_dim,
                        std::byte* code_plane);
void EncodeCodePlane(const std::byte* keys, KvType type, int head_dim,
                     std::byte* code_plane);

// The keys that a code plane stands for, f32 [256][head_dim]: for tests.
void DecodeCodePlane(const std::byte* code_plane, int head_dim, float* keys);

// Scores over one code plane; the fields as in ExactScores, 16 blocks.
//
// The cpu backend quantises w[c] = q[c] * scale[c] to int8 with one step,
// max|w| / 127, a head.  So its score differs from the exact score on the
// decoded keys by at most scale * step / 2 * sum |code - 7.5|, which on keys of
// language models is well below 1 % of |q||k| scale.  All instruction sets
// compute the same integers.
struct CodeScores {
  const std::byte* code_plane = nullptr;
  int head_dim = 0;
  int group = 0;
  const float* q = nullptr;
  float scale = 0;
  float* block_max = nullptr;
  size_t row_stride = 0;
  float* lse = nullptr;  // may be null: saves a sixth of the time
};
void CodeScoresRef(const CodeScores& args);
void CodeScoresCpu(const CodeScores& args);

// exp of this is below what a 16-bit history of probabilities keeps.
inline constexpr float kNegligibleLogProbability = -16.0f;

// probability[i] = exp(log_probability[i] + shift), of f16 numbers; 0 where
// that is negligible.  Relative error below 2e-6.
// REQUIRES: sums are at most about 0.
void BlockProbabilities(const uint16_t* log_probability, float shift, int count,
                        float* probability);

// The instruction set that the cpu backend chose: see attention.h.
std::string KernelIsa();

}  // namespace forecache

#endif  // FORECACHE_KERNELS_BLOCK_SCORES_H_
