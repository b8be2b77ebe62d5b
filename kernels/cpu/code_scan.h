// The scans behind ScanCodesCpu, one a kind, and what they share on every
// instruction set.  Arguments are checked.
#ifndef FORECACHE_KERNELS_CPU_CODE_SCAN_H_
#define FORECACHE_KERNELS_CPU_CODE_SCAN_H_

#include <cmath>
#include <cstddef>
#include <limits>

#include "kernels/attention.h"
#include "kernels/code_scan.h"

namespace forecache {

void Scan4BitCpu(const CodeScan& args);
void ScanRotatedCpu(const CodeScan& args);
void EncodeRotatedPlaneCpu(const std::byte* keys, KvType type, int head_dim,
                           std::byte* plane);

// A head's sum of exp(logit - top) over the planes so far, in 16 lanes.
struct ScanSum {
  alignas(64) float lanes[16] = {};
  float top = -1e30f;

  float Lse() const {
    float sum = 0;
    for (float lane : lanes) sum += lane;
    return sum > 0 ? top + std::log(sum)
                   : -std::numeric_limits<float>::infinity();
  }
};

// A block whose largest logit is so far below the largest one adds less than
// 16 exp(-20) = 3e-8 of it to the sum.
inline constexpr float kLseReach = 20.0f;

// How many planes ahead of the scan memory is asked for.  Planes of a context
// lie far from each other, where the hardware's own prefetching is of no help.
inline constexpr int kPlanesAhead = 2;

// Into the second-level cache: so many lines on their way would keep the first
// level's few miss registers busy, and halve the speed.
inline void PrefetchPlane(const void* line) { __builtin_prefetch(line, 0, 2); }

// Null where none is asked for.
inline float* LogitsOf(const CodeScan& args, int plane, int head) {
  if (args.logits == nullptr) return nullptr;
  return args.logits + head * args.logit_stride +
         size_t(plane) * kCodePlaneTokens;
}

inline float* BlockMaxOf(const CodeScan& args, int plane, int head) {
  return args.block_max + head * args.row_stride +
         size_t(plane) * kCodePlaneBlocks;
}

}  // namespace forecache

#endif  // FORECACHE_KERNELS_CPU_CODE_SCAN_H_
