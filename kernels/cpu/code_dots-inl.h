// Integer dot products of codes with queries, keys in the lanes.  Included once
// for each instruction set, inside Highway's namespaces.
#if defined(FORECACHE_KERNELS_CPU_CODE_DOTS_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef FORECACHE_KERNELS_CPU_CODE_DOTS_INL_H_
#undef FORECACHE_KERNELS_CPU_CODE_DOTS_INL_H_
#else
#define FORECACHE_KERNELS_CPU_CODE_DOTS_INL_H_
#endif

#include <cstring>

#include "hwy/highway.h"
#include "kernels/block_scores.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL
// Highway tests the CPU for AVX512_VNNI but asks the compiler for AVX-VNNI,
// another encoding of the same instruction.
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
#endif
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

inline constexpr int kScanHeadsMax = 4;  // heads of one pass over the codes

using DI = hn::RebindToSigned<DF>;
using VI = hn::Vec<DI>;
// A plane is 256 / kLanes vectors of keys; so many are scanned at once.  With
// four, GCC's sums no longer stay in AVX-512's 32 registers.
inline constexpr int kKeyVectors = kCodePlaneTokens / kLanes;
inline constexpr int kVectorsAtOnce = 2;
inline constexpr int kVectorsOfBlock = kScoreBlockTokens / kLanes;

// Four int8 of a query, for all lanes.
HWY_INLINE int32_t FourAt(const int8_t* q) {
  int32_t four;
  std::memcpy(&four, q, sizeof(four));
  return four;
}

// acc + codes times queries: the four bytes of each lane of `first` and
// `second` meet the four int8 of q_first and q_second.
// REQUIRES: codes of at most 15.
HWY_INLINE VI AddDots(VI acc, VI first, VI second, int32_t q_first,
                      int32_t q_second) {
  // Without VNNI: two products of at most 15 * 127 a pair, two pairs, are far
  // from 2^15.
#if HWY_TARGET == HWY_AVX3_DL
  acc.raw = _mm512_dpbusd_epi32(acc.raw, first.raw, _mm512_set1_epi32(q_first));
  return VI{
      _mm512_dpbusd_epi32(acc.raw, second.raw, _mm512_set1_epi32(q_second))};
#elif HWY_TARGET == HWY_AVX3
  const __m512i pairs = _mm512_add_epi16(
      _mm512_maddubs_epi16(first.raw, _mm512_set1_epi32(q_first)),
      _mm512_maddubs_epi16(second.raw, _mm512_set1_epi32(q_second)));
  return hn::Add(acc, VI{_mm512_madd_epi16(pairs, _mm512_set1_epi16(1))});
#elif HWY_TARGET == HWY_AVX2
  const __m256i pairs = _mm256_add_epi16(
      _mm256_maddubs_epi16(first.raw, _mm256_set1_epi32(q_first)),
      _mm256_maddubs_epi16(second.raw, _mm256_set1_epi32(q_second)));
  return hn::Add(acc, VI{_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))});
#elif HWY_TARGET == HWY_SSE4
  const __m128i pairs = _mm_add_epi16(
      _mm_maddubs_epi16(first.raw, _mm_set1_epi32(q_first)),
      _mm_maddubs_epi16(second.raw, _mm_set1_epi32(q_second)));
  return hn::Add(acc, VI{_mm_madd_epi16(pairs, _mm_set1_epi16(1))});
#else
  const DI di;
  const VI byte = hn::Set(di, 0xFF);
  const auto q = [&](int32_t four, int j) HWY_ATTR {
    return hn::Set(di, static_cast<int8_t>(four >> 8 * j));
  };
  const auto add = [&](VI codes, int32_t four) HWY_ATTR {
    acc = hn::Add(acc, hn::Mul(hn::And(codes, byte), q(four, 0)));
    acc = hn::Add(acc, hn::Mul(hn::And(hn::ShiftRight<8>(codes), byte),
                               q(four, 1)));
    acc = hn::Add(acc, hn::Mul(hn::And(hn::ShiftRight<16>(codes), byte),
                               q(four, 2)));
    acc = hn::Add(acc, hn::Mul(hn::ShiftRight<24>(codes), q(four, 3)));
  };
  add(first, q_first);
  add(second, q_second);
  return acc;
#endif
}

// acc + codes times weights: the four bytes of each lane of both, int8 weights.
// REQUIRES: codes of at most 15.
HWY_INLINE VI AddDots4(VI acc, VI codes, VI weights) {
#if HWY_TARGET == HWY_AVX3_DL
  return VI{_mm512_dpbusd_epi32(acc.raw, codes.raw, weights.raw)};
#elif HWY_TARGET == HWY_AVX3
  return hn::Add(acc, VI{_mm512_madd_epi16(
                          _mm512_maddubs_epi16(codes.raw, weights.raw),
                          _mm512_set1_epi16(1))});
#elif HWY_TARGET == HWY_AVX2
  return hn::Add(acc, VI{_mm256_madd_epi16(
                          _mm256_maddubs_epi16(codes.raw, weights.raw),
                          _mm256_set1_epi16(1))});
#elif HWY_TARGET == HWY_SSE4
  return hn::Add(acc, VI{_mm_madd_epi16(
                          _mm_maddubs_epi16(codes.raw, weights.raw),
                          _mm_set1_epi16(1))});
#else
  const DI di;
  const VI byte = hn::Set(di, 0xFF);
  acc = hn::Add(acc, hn::Mul(hn::And(codes, byte),
                             hn::ShiftRight<24>(hn::ShiftLeft<24>(weights))));
  acc = hn::Add(acc, hn::Mul(hn::And(hn::ShiftRight<8>(codes), byte),
                             hn::ShiftRight<24>(hn::ShiftLeft<16>(weights))));
  acc = hn::Add(acc, hn::Mul(hn::And(hn::ShiftRight<16>(codes), byte),
                             hn::ShiftRight<24>(hn::ShiftLeft<8>(weights))));
  return hn::Add(acc, hn::Mul(hn::And(hn::ShiftRight<24>(codes), byte),
                              hn::ShiftRight<24>(weights)));
#endif
}

// Where the codes of key vector `vector` begin, in a plane whose blocks of 16
// keys take `block_bytes`.
HWY_INLINE const uint8_t* KeyVectorCodes(const uint8_t* codes,
                                         size_t block_bytes, int vector) {
  return codes + vector / kVectorsOfBlock * block_bytes +
         size_t(vector % kVectorsOfBlock) * kLanes * 4;
}

// What the lanes of each row reduce to.
template <typename Op, typename D, typename V = hn::Vec<D>>
HWY_INLINE void StoreReduced4(D d, Op op, const V (&rows)[kScanHeadsMax],
                              hn::TFromD<D>* HWY_RESTRICT to) {
  alignas(64) hn::TFromD<D> parts[kLanes];
  hn::Store(ReduceParts(d, op, rows[0], rows[1], rows[2], rows[3]), d, parts);
  const hn::Full128<hn::TFromD<D>> d4;
  auto all = hn::Load(d4, parts);
  for (int i = 4; i < kLanes; i += 4) all = op(all, hn::Load(d4, parts + i));
  hn::Store(all, d4, to);
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
#if HWY_TARGET == HWY_AVX3_DL
HWY_POP_ATTRIBUTES
#endif
HWY_AFTER_NAMESPACE();

#endif  // FORECACHE_KERNELS_CPU_CODE_DOTS_INL_H_
