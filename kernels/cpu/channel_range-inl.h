// The range of each channel of a plane's 256 keys or values.  Included once for
// each instruction set, inside Highway's namespaces.
#if defined(FORECACHE_KERNELS_CPU_CHANNEL_RANGE_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef FORECACHE_KERNELS_CPU_CHANNEL_RANGE_INL_H_
#undef FORECACHE_KERNELS_CPU_CHANNEL_RANGE_INL_H_
#else
#define FORECACHE_KERNELS_CPU_CHANNEL_RANGE_INL_H_
#endif

#include "hwy/highway.h"
#include "kernels/code_plane.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// Low, scale and its inverse for kLanes channels.
template <KvType kType>
HWY_INLINE void FindRange(const uint16_t* HWY_RESTRICT keys, int head_dim,
                          float* HWY_RESTRICT low_to,
                          float* HWY_RESTRICT scale_to,
                          float* HWY_RESTRICT inverse_to) {
  const DF df;
  VF low = LoadKv<kType>(keys);
  VF high = low;
  for (int t = 1; t < kCodePlaneTokens; ++t) {
    const VF key = LoadKv<kType>(keys + size_t(t) * head_dim);
    low = hn::Min(low, key);
    high = hn::Max(high, key);
  }
  low = hn::Add(low, hn::Zero(df));
  VF scale = hn::Div(hn::Sub(high, low), hn::Set(df, float{kCodeMax}));
  const auto wide = hn::Ge(scale, hn::Set(df, kCodeScaleMin));
  scale = hn::IfThenElseZero(wide, scale);
  const VF inverse =
      hn::IfThenElseZero(wide, hn::Div(hn::Set(df, 1.0f), scale));
  hn::StoreU(low, df, low_to);
  hn::StoreU(scale, df, scale_to);
  hn::StoreU(inverse, df, inverse_to);
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#endif  // FORECACHE_KERNELS_CPU_CHANNEL_RANGE_INL_H_
