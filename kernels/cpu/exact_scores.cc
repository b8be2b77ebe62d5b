// ExactScores: the keys of a plane against a group of queries.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "kernels/arguments.h"
#include "kernels/block_scores.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/exact_scores.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/key_dots-inl.h"
#include "kernels/cpu/vector-inl.h"

#ifndef FORECACHE_EXACT_SCORES_ONCE
#define FORECACHE_EXACT_SCORES_ONCE
namespace forecache {

inline constexpr int kRunBlocks = 16;
inline constexpr int kScoreRunTokens = kRunBlocks * kScoreBlockTokens;

struct ScoreScratch {
  alignas(64) float q[kKernelGroupMax * kKernelHeadDimMax];  // scaled
  alignas(64) float logits[kKernelGroupMax * kScoreRunTokens];
  // The last block with zeros behind it: a plane may end at its last key.
  alignas(64) uint16_t tail[kScoreBlockTokens * kKernelHeadDimMax];
  float largest[kKernelGroupMax];
  float sum[kKernelGroupMax];
};

inline ScoreScratch& ThreadScoreScratch() {
  // On the heap: every thread of the process, of small stacks too, pays for
  // what is thread-local in place.
  thread_local const std::unique_ptr<ScoreScratch> scratch =
      std::make_unique<ScoreScratch>();
  return *scratch;
}

}  // namespace forecache
#endif  // FORECACHE_EXACT_SCORES_ONCE

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void ExactScoresAll(const ExactScores& args) { ExactScoresRef(args); }
#else

// Block maxima of one head's logits, and its running log-sum-exp.
void FoldLogits(const float* HWY_RESTRICT logits, int blocks,
                float* HWY_RESTRICT block_max, float* largest, float* sum) {
  const DF df;
  float top = *largest;
  for (int b = 0; b < blocks; ++b) {
    const float* block = logits + b * kScoreBlockTokens;
    VF most = hn::LoadU(df, block);
    for (int t = kLanes; t < kScoreBlockTokens; t += kLanes) {
      most = hn::Max(most, hn::LoadU(df, block + t));
    }
    block_max[b] = hn::GetLane(hn::MaxOfLanes(df, most));
    top = std::max(top, block_max[b]);
  }
  const VF log2e = hn::Set(df, kLog2E);
  const VF tops = hn::Set(df, top);
  VF added = hn::Zero(df);
  for (int t = 0; t < blocks * kScoreBlockTokens; t += kLanes) {
    const VF logit = hn::LoadU(df, logits + t);
    added = hn::Add(added, Exp2(hn::Mul(hn::Sub(logit, tops), log2e)));
  }
  *sum = *sum * std::exp(*largest - top) +
         hn::GetLane(hn::SumOfLanes(df, added));
  *largest = top;
}

template <KvType kType>
void ScorePlane(const ExactScores& args) {
  ScoreScratch& scratch = ThreadScoreScratch();
  const uint16_t* keys = reinterpret_cast<const uint16_t*>(args.keys);
  const int head_dim = args.head_dim;
  const int blocks =
      (args.tokens + kScoreBlockTokens - 1) / kScoreBlockTokens;
  for (int i = 0; i < args.group * head_dim; ++i) {
    scratch.q[i] = args.q[i] * args.scale;
  }
  std::fill(scratch.largest, scratch.largest + args.group, kMasked);
  std::fill(scratch.sum, scratch.sum + args.group, 0.0f);
  for (int begin = 0; begin < blocks; begin += kRunBlocks) {
    const int end = std::min(begin + kRunBlocks, blocks);
    for (int b = begin; b < end; ++b) {
      const uint16_t* block = keys + size_t(b) * kScoreBlockTokens * head_dim;
      const int tokens =
          std::min(kScoreBlockTokens, args.tokens - b * kScoreBlockTokens);
      if (tokens < kScoreBlockTokens) {
        const size_t elements = size_t(tokens) * head_dim;
        std::copy(block, block + elements, scratch.tail);
        std::fill(scratch.tail + elements,
                  scratch.tail + size_t(kScoreBlockTokens) * head_dim, 0);
        block = scratch.tail;
      }
      float* logits = scratch.logits + (b - begin) * kScoreBlockTokens;
      BlockDotsGroup<kType>(block, head_dim, scratch.q, args.group, logits,
                            kScoreRunTokens);
      for (int g = 0; g < args.group; ++g) {
        float* row = logits + size_t(g) * kScoreRunTokens;
        std::fill(row + tokens, row + kScoreBlockTokens, kMasked);
      }
    }
    for (int g = 0; g < args.group; ++g) {
      FoldLogits(scratch.logits + size_t(g) * kScoreRunTokens, end - begin,
                 args.block_max + g * args.row_stride + begin,
                 &scratch.largest[g], &scratch.sum[g]);
    }
  }
  for (int g = 0; g < args.group; ++g) {
    args.lse[g] = blocks == 0 ? -std::numeric_limits<float>::infinity()
                              : scratch.largest[g] + std::log(scratch.sum[g]);
  }
}

void ExactScoresAll(const ExactScores& args) {
  if (args.type == KvType::kF16) {
    ScorePlane<KvType::kF16>(args);
  } else {
    ScorePlane<KvType::kBF16>(args);
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forecache {

HWY_EXPORT(ExactScoresAll);

void ExactScoresCpu(const ExactScores& args) {
  CheckArguments(args);
  HWY_DYNAMIC_DISPATCH(ExactScoresAll)(args);
}

}  // namespace forecache
#endif  // HWY_ONCE
