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

struct Sum {
  template <typename V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Add(a, b);
  }
};
struct Largest {
  template <typename V>
  HWY_INLINE V operator()(V a, V b) const {
    return hn::Max(a, b);
  }
};

// Reduces lanes within each 128-bit part: part i of the result has what part i
// of a, b, c and d reduces to.
template <typename Op, typename D, typename V = hn::Vec<D>>
HWY_INLINE V ReduceParts(D d, Op op, V a, V b, V c, V e) {
  const hn::Repartition<uint64_t, D> d64;
  const V ab = op(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b));
  const V ce = op(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e));
  const auto x = hn::BitCast(d64, ab);
  const auto y = hn::BitCast(d64, ce);
  return op(hn::BitCast(d, hn::InterleaveLower(d64, x, y)),
            hn::BitCast(d, hn::InterleaveUpper(d64, x, y)));
}

// From ReduceParts of rows 0-3, 4-7, 8-11 and 12-15: stores what each of the 16
// rows reduces to.
template <typename Op, typename D, typename V = hn::Vec<D>>
HWY_INLINE void StoreReduced16(D d, Op op, V r0, V r4, V r8, V r12,
                               hn::TFromD<D>* HWY_RESTRICT to) {
#if HWY_MAX_BYTES == 16
  hn::StoreU(r0, d, to);
  hn::StoreU(r4, d, to + 4);
  hn::StoreU(r8, d, to + 8);
  hn::StoreU(r12, d, to + 12);
#elif HWY_MAX_BYTES == 32
  hn::StoreU(op(hn::ConcatLowerLower(d, r4, r0),
                hn::ConcatUpperUpper(d, r4, r0)), d, to);
  hn::StoreU(op(hn::ConcatLowerLower(d, r12, r8),
                hn::ConcatUpperUpper(d, r12, r8)), d, to + 8);
#else
  // Halves first: [0 0 8 8] and [4 4 12 12], each a pair of partial results.
  const V p = op(hn::ConcatLowerLower(d, r8, r0),
                 hn::ConcatUpperUpper(d, r8, r0));
  const V q = op(hn::ConcatLowerLower(d, r12, r4),
                 hn::ConcatUpperUpper(d, r12, r4));
  hn::StoreU(op(hn::OddEvenBlocks(q, p),
                hn::SwapAdjacentBlocks(hn::OddEvenBlocks(p, q))),
             d, to);
#endif
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#endif  // FORECACHE_KERNELS_CPU_VECTOR_INL_H_
