// Vector code that the cpu kernels share.  Included once for each instruction
// set, inside Highway's namespaces.
#if defined(FORECACHE_KERNELS_CPU_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef FORECACHE_KERNELS_CPU_VECTOR_INL_H_
#undef FORECACHE_KERNELS_CPU_VECTOR_INL_H_
#else
#define FORECACHE_KERNELS_CPU_VECTOR_INL_H_
#endif

#include <cstddef>
#include <cstdint>

#include "common/half.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET != HWY_SCALAR

// At most 16 lanes, so that a vector never exceeds head_dim's step.
using DF = hn::CappedTag<float, 16>;
using VF = hn::Vec<DF>;
inline constexpr int kLanes = HWY_MIN(16, HWY_MAX_BYTES / 4);

// Registers that a block of accumulators may take.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL || HWY_ARCH_ARM_A64
inline constexpr int kRegisters = 32;
#else
inline constexpr int kRegisters = 16;
#endif

inline constexpr float kLog2E = 1.44269504088896340736f;
inline constexpr float kLn2 = 0.69314718055994530942f;
// The logit of a key that must not be seen: finite, so that differences of two
// such logits are no NaN.
inline constexpr float kMasked = -1e30f;

// Loads kLanes keys or values as f32, from any address.
template <KvType kType>
HWY_INLINE VF LoadKv(const uint16_t* HWY_RESTRICT from) {
  const DF df;
  if constexpr (kType == KvType::kF16) {
    const hn::Rebind<hwy::float16_t, DF> dh;
    return hn::PromoteTo(
        df, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(from)));
  } else {
    const hn::Rebind<uint16_t, DF> du16;
    const hn::RebindToUnsigned<DF> du32;
    return hn::BitCast(
        df, hn::ShiftLeft<16>(hn::PromoteTo(du32, hn::LoadU(du16, from))));
  }
}

// 2^x for x <= 0, relative error below 3e-7; 0 for x < -126.
HWY_INLINE VF Exp2(VF x) {
  const DF df;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  // x minus its floor in one instruction, and 2^floor in another.
  const VF f{_mm512_reduce_ps(x.raw, 0x09)};
#else
  x = hn::Max(x, hn::Set(df, -127.0f));
  const VF whole = hn::Floor(x);
  const VF f = hn::Sub(x, whole);
#endif
  VF p = hn::Set(df, 1.8775767e-3f);
  p = hn::MulAdd(p, f, hn::Set(df, 8.9893397e-3f));
  p = hn::MulAdd(p, f, hn::Set(df, 5.5826318e-2f));
  p = hn::MulAdd(p, f, hn::Set(df, 2.4015361e-1f));
  p = hn::MulAdd(p, f, hn::Set(df, 6.9315308e-1f));
  p = hn::MulAdd(p, f, hn::Set(df, 9.9999994e-1f));
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  return VF{_mm512_scalef_ps(p.raw, x.raw)};
#else
  // The exponent -127 makes the bits of 2^-127 those of zero.
  const hn::RebindToSigned<DF> di;
  const auto exponent =
      hn::Add(hn::ConvertTo(di, whole), hn::Set(di, 127));
  return hn::Mul(p, hn::BitCast(df, hn::ShiftLeft<23>(exponent)));
#endif
}

// Adds lanes within each 128-bit part: part i of the result has the sums of
// part i of a, b, c and d.
HWY_INLINE VF SumParts(VF a, VF b, VF c, VF d) {
  const DF df;
  const hn::Repartition<double, DF> dd;
  const VF ab = hn::Add(hn::InterleaveLower(df, a, b),
                        hn::InterleaveUpper(df, a, b));
  const VF cd = hn::Add(hn::InterleaveLower(df, c, d),
                        hn::InterleaveUpper(df, c, d));
  const auto x = hn::BitCast(dd, ab);
  const auto y = hn::BitCast(dd, cd);
  return hn::Add(hn::BitCast(df, hn::InterleaveLower(dd, x, y)),
                 hn::BitCast(df, hn::InterleaveUpper(dd, x, y)));
}

// From SumParts of rows 0-3, 4-7, 8-11 and 12-15: stores the 16 sums.
HWY_INLINE void StoreSums16(VF r0, VF r4, VF r8, VF r12,
                            float* HWY_RESTRICT to) {
  const DF df;
#if HWY_MAX_BYTES == 16
  hn::StoreU(r0, df, to);
  hn::StoreU(r4, df, to + 4);
  hn::StoreU(r8, df, to + 8);
  hn::StoreU(r12, df, to + 12);
#elif HWY_MAX_BYTES == 32
  hn::StoreU(hn::Add(hn::ConcatLowerLower(df, r4, r0),
                     hn::ConcatUpperUpper(df, r4, r0)), df, to);
  hn::StoreU(hn::Add(hn::ConcatLowerLower(df, r12, r8),
                     hn::ConcatUpperUpper(df, r12, r8)), df, to + 8);
#else
  // Halves first: [0 0 8 8] and [4 4 12 12], each a pair of partial sums.
  const VF p = hn::Add(hn::ConcatLowerLower(df, r8, r0),
                       hn::ConcatUpperUpper(df, r8, r0));
  const VF q = hn::Add(hn::ConcatLowerLower(df, r12, r4),
                       hn::ConcatUpperUpper(df, r12, r4));
  hn::StoreU(hn::Add(hn::OddEvenBlocks(q, p),
                     hn::SwapAdjacentBlocks(hn::OddEvenBlocks(p, q))),
             df, to);
#endif
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#endif  // FORECACHE_KERNELS_CPU_VECTOR_INL_H_
