// Dot products of the 16 keys of a block with several queries at once.
#if defined(FORECACHE_KERNELS_CPU_KEY_DOTS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef FORECACHE_KERNELS_CPU_KEY_DOTS_INL_H_
#undef FORECACHE_KERNELS_CPU_KEY_DOTS_INL_H_
#else
#define FORECACHE_KERNELS_CPU_KEY_DOTS_INL_H_
#endif

#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Query heads whose accumulators (four tokens each) fit in the registers.
inline constexpr int kHeadsAtOnce = kRegisters == 32 ? 4 : 3;

// dots[h * stride + t] = q[h] . keys[t] for the 16 tokens of a block, each key
// read and converted once for all kHeads.
template <KvType kType, int kHeads>
HWY_INLINE void BlockDots(const uint16_t* HWY_RESTRICT keys, int head_dim,
                          const float* HWY_RESTRICT q,
                          float* HWY_RESTRICT dots, size_t stride) {
  const DF df;
  VF sums[4][kHeads];
#pragma GCC unroll 4
  for (int quad = 0; quad < 4; ++quad) {
    const uint16_t* HWY_RESTRICT rows = keys + size_t(quad) * 4 * head_dim;
    VF acc[kHeads][4];
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t) acc[h][t] = hn::Zero(df);
    }
    for (int c = 0; c < head_dim; c += kLanes) {
#pragma GCC unroll 4
      for (int t = 0; t < 4; ++t) {
        const VF key = LoadKv<kType>(rows + size_t(t) * head_dim + c);
#pragma GCC unroll 4
        for (int h = 0; h < kHeads; ++h) {
          const VF query = hn::LoadU(df, q + size_t(h) * head_dim + c);
          acc[h][t] = hn::MulAdd(key, query, acc[h][t]);
        }
      }
    }
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      sums[quad][h] = ReduceParts(df, Sum(), acc[h][0], acc[h][1], acc[h][2],
                                  acc[h][3]);
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
    StoreReduced16(df, Sum(), sums[0][h], sums[1][h], sums[2][h], sums[3][h],
                   dots + h * stride);
  }
}

// The same for any number of heads.
template <KvType kType>
HWY_INLINE void BlockDotsGroup(const uint16_t* HWY_RESTRICT keys, int head_dim,
                               const float* HWY_RESTRICT q, int group,
                               float* HWY_RESTRICT dots, size_t stride) {
  int h = 0;
  for (; h + kHeadsAtOnce <= group; h += kHeadsAtOnce) {
    BlockDots<kType, kHeadsAtOnce>(keys, head_dim, q + size_t(h) * head_dim,
                                   dots + h * stride, stride);
  }
  const float* rest = q + size_t(h) * head_dim;
  switch (group - h) {
    case 3:
      return BlockDots<kType, 3>(keys, head_dim, rest, dots + h * stride,
                                 stride);
    case 2:
      return BlockDots<kType, 2>(keys, head_dim, rest, dots + h * stride,
                                 stride);
    case 1:
      return BlockDots<kType, 1>(keys, head_dim, rest, dots + h * stride,
                                 stride);
    default:
      return;
  }
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#endif  // FORECACHE_KERNELS_CPU_KEY_DOTS_INL_H_
