// CodeScores: integer dot products of key codes with queries.
//
//   logit = scale (q . low + sum w[c] code[c]),  w[c] = q[c] scale[c]
//
// w is rounded to int8 (w ~ step * quantised).  The rounding error meets the
// codes less their centre 7.5, because the centre's part is computed exactly:
// sum w code = 7.5 sum w + step (sum quantised code - 7.5 sum quantised).
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/arguments.h"
#include "kernels/block_scores.h"
#include "kernels/code_plane.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/code_scan.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

#ifndef FORECACHE_CODE_SCAN_ONCE
#define FORECACHE_CODE_SCAN_ONCE
namespace forecache {

inline constexpr int kScanHeadsMax = 4;  // heads of one pass over the codes

// A query made ready for one plane: logit = base + step * dot.
struct ScanQuery {
  float base;
  float step;
};

}  // namespace forecache
#endif  // FORECACHE_CODE_SCAN_ONCE

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL
// Highway tests the CPU for AVX512_VNNI but asks the compiler for AVX-VNNI,
// another encoding of the same instruction.
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
#endif
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void CodeScoresAll(const CodeScores& args) { CodeScoresRef(args); }
#else

using DI = hn::RebindToSigned<DF>;
using VI = hn::Vec<DI>;
// A plane is 256 / kLanes vectors of keys; so many are scanned at once.
inline constexpr int kKeyVectors = kCodePlaneTokens / kLanes;
inline constexpr int kVectorsAtOnce = kRegisters == 32 ? 4 : 2;
inline constexpr int kVectorsOfBlock = kScoreBlockTokens / kLanes;

// acc + the codes of eight channels times their queries: four bytes of each
// lane of `low` and `high`, four int8 each in q_low and q_high.
HWY_INLINE VI AddDots(VI acc, VI low, VI high, int32_t q_low, int32_t q_high) {
#if HWY_TARGET == HWY_AVX3_DL
  const __m512i first =
      _mm512_dpbusd_epi32(acc.raw, low.raw, _mm512_set1_epi32(q_low));
  return VI{_mm512_dpbusd_epi32(first, high.raw, _mm512_set1_epi32(q_high))};
#elif HWY_TARGET == HWY_AVX3
  // Two products of at most 15 * 127 a pair, two pairs: far from 2^15.
  const __m512i pairs = _mm512_add_epi16(
      _mm512_maddubs_epi16(low.raw, _mm512_set1_epi32(q_low)),
      _mm512_maddubs_epi16(high.raw, _mm512_set1_epi32(q_high)));
  return hn::Add(acc, VI{_mm512_madd_epi16(pairs, _mm512_set1_epi16(1))});
#elif HWY_TARGET == HWY_AVX2
  const __m256i pairs = _mm256_add_epi16(
      _mm256_maddubs_epi16(low.raw, _mm256_set1_epi32(q_low)),
      _mm256_maddubs_epi16(high.raw, _mm256_set1_epi32(q_high)));
  return hn::Add(acc, VI{_mm256_madd_epi16(pairs, _mm256_set1_epi16(1))});
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
  add(low, q_low);
  add(high, q_high);
  return acc;
#endif
}

// The four lanes of a 128-bit part that ReduceParts left in several parts.
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

// Quantises the queries of kHeads heads for this plane.
template <int kHeads>
HWY_INLINE void PrepareQueries(const CodeScores& args, int first_head,
                               int8_t* HWY_RESTRICT quantised,
                               ScanQuery* HWY_RESTRICT queries) {
  const DF df;
  const DI di;
  const hn::Rebind<int8_t, DF> di8;
  const int head_dim = args.head_dim;
  const float* HWY_RESTRICT q = args.q + size_t(first_head) * head_dim;
  const float* HWY_RESTRICT low = CodePlaneLow(args.code_plane);
  const float* HWY_RESTRICT scale = CodePlaneScale(args.code_plane, head_dim);
  VF most[kScanHeadsMax], offset[kScanHeadsMax];
  VI sum[kScanHeadsMax];
#pragma GCC unroll 4
  for (int h = 0; h < kScanHeadsMax; ++h) {
    most[h] = offset[h] = hn::Zero(df);
    sum[h] = hn::Zero(di);
  }
  for (int c = 0; c < head_dim; c += kLanes) {
    const VF step = hn::LoadU(df, scale + c);
    // The middle of the channel's range: q . middle = q . low + 7.5 sum w.
    const VF middle = hn::MulAdd(hn::Set(df, kCodeCentre), step,
                                 hn::LoadU(df, low + c));
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const VF query = hn::LoadU(df, q + size_t(h) * head_dim + c);
      most[h] = hn::Max(most[h], hn::Abs(hn::Mul(query, step)));
      offset[h] = hn::MulAdd(query, middle, offset[h]);
    }
  }
  alignas(64) float largest[kScanHeadsMax], offsets[kScanHeadsMax];
  alignas(64) int32_t sums[kScanHeadsMax];
  StoreReduced4(df, Largest(), most, largest);
  StoreReduced4(df, Sum(), offset, offsets);
  VF factor[kHeads];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
    factor[h] = hn::Set(df, largest[h] > 0 ? 127.0f / largest[h] : 0.0f);
  }
  for (int c = 0; c < head_dim; c += kLanes) {
    const VF step = hn::LoadU(df, scale + c);
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const VF w = hn::Mul(hn::LoadU(df, q + size_t(h) * head_dim + c), step);
      const VI whole = hn::NearestInt(hn::Mul(w, factor[h]));
      sum[h] = hn::Add(sum[h], whole);
      hn::StoreU(hn::DemoteTo(di8, whole), di8,
                 quantised + h * kKernelHeadDimMax + c);
    }
  }
  StoreReduced4(di, Sum(), sum, sums);
  for (int h = 0; h < kHeads; ++h) {
    const float step = largest[h] / 127.0f;
    const float centre = kCodeCentre * step * static_cast<float>(sums[h]);
    queries[h] = {(offsets[h] - centre) * args.scale, step * args.scale};
  }
}

// dots[h][t] = codes of token t . quantised query h, for kVectorsAtOnce vectors
// of keys from vector `first` on.
template <int kHeads>
HWY_INLINE void ScanVectors(const uint8_t* HWY_RESTRICT codes, int head_dim,
                            const int8_t* HWY_RESTRICT quantised, int first,
                            int32_t* HWY_RESTRICT dots) {
  const DI di;
  const VI nibbles = hn::Set(di, 0x0F0F0F0F);
  const uint8_t* from[kVectorsAtOnce];
#pragma GCC unroll 4
  for (int v = 0; v < kVectorsAtOnce; ++v) {
    const int vector = first + v;
    from[v] = codes +
              CodeOffset(vector / kVectorsOfBlock * kScoreBlockTokens, 0,
                         head_dim) +
              size_t(vector % kVectorsOfBlock) * kLanes * 4;
  }
  VI acc[kHeads][kVectorsAtOnce];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectorsAtOnce; ++v) acc[h][v] = hn::Zero(di);
  }
  for (int c = 0; c < head_dim; c += kRunChannels) {
    VI low[kVectorsAtOnce], high[kVectorsAtOnce];
#pragma GCC unroll 4
    for (int v = 0; v < kVectorsAtOnce; ++v) {
      const VI both = hn::LoadU(
          di, reinterpret_cast<const int32_t*>(from[v] + c * kRunChannels));
      low[v] = hn::And(both, nibbles);
      high[v] = hn::And(hn::ShiftRight<4>(both), nibbles);
    }
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      int32_t q[2];
      std::memcpy(q, quantised + h * kKernelHeadDimMax + c, sizeof(q));
#pragma GCC unroll 4
      for (int v = 0; v < kVectorsAtOnce; ++v) {
        acc[h][v] = AddDots(acc[h][v], low[v], high[v], q[0], q[1]);
      }
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectorsAtOnce; ++v) {
      hn::Store(acc[h][v], di,
                dots + h * kCodePlaneTokens + (first + v) * kLanes);
    }
  }
}

// The largest dot of each block: a block's keys lie in kVectorsOfBlock vectors.
HWY_INLINE void BlockLargest(const int32_t* HWY_RESTRICT dots,
                             int32_t* HWY_RESTRICT largest) {
  const DI di;
  VI parts[4];
#pragma GCC unroll 4
  for (int quad = 0; quad < 4; ++quad) {
    VI row[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const int32_t* block = dots + (quad * 4 + i) * kScoreBlockTokens;
      row[i] = hn::Load(di, block);
#pragma GCC unroll 4
      for (int v = 1; v < kVectorsOfBlock; ++v) {
        row[i] = hn::Max(row[i], hn::Load(di, block + v * kLanes));
      }
    }
    parts[quad] = ReduceParts(di, Largest(), row[0], row[1], row[2], row[3]);
  }
  StoreReduced16(di, Largest(), parts[0], parts[1], parts[2], parts[3],
                 largest);
}

// 2^x for x <= 0, relative error below 8e-5: codes are coarser than that.
HWY_INLINE VF CoarseExp2(VF x) {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  const DF df;
  const VF f{_mm512_reduce_ps(x.raw, 0x09)};
  VF p = hn::Set(df, 7.8024524e-2f);
  p = hn::MulAdd(p, f, hn::Set(df, 2.2606716e-1f));
  p = hn::MulAdd(p, f, hn::Set(df, 6.9583353e-1f));
  p = hn::MulAdd(p, f, hn::Set(df, 9.9992522e-1f));
  return VF{_mm512_scalef_ps(p.raw, x.raw)};
#else
  return Exp2(x);
#endif
}

// Dots of one head to its scores.  Returns the largest dot.
HWY_INLINE VI FoldDots(const int32_t* HWY_RESTRICT dots,
                       const ScanQuery& query, float* HWY_RESTRICT block_max) {
  const DF df;
  const DI di;
  alignas(64) int32_t largest[kCodePlaneBlocks];
  BlockLargest(dots, largest);
  VI most = hn::Load(di, largest);
  for (int b = 0; b < kCodePlaneBlocks; b += kLanes) {
    const VI block = hn::Load(di, largest + b);
    most = hn::Max(most, block);
    hn::StoreU(hn::MulAdd(hn::ConvertTo(df, block), hn::Set(df, query.step),
                          hn::Set(df, query.base)),
               df, block_max + b);
  }
  return hn::MaxOfLanes(di, most);
}

HWY_INLINE float LogSumExp(const int32_t* HWY_RESTRICT dots, VI largest,
                           const ScanQuery& query) {
  const DF df;
  const DI di;
  const VF top = hn::ConvertTo(df, largest);
  const VF factor = hn::Set(df, query.step * kLog2E);
  const VF shift = hn::Mul(top, factor);
  VF sum[2] = {hn::Zero(df), hn::Zero(df)};
  for (int t = 0; t < kCodePlaneTokens; t += 2 * kLanes) {
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const VF dot = hn::ConvertTo(df, hn::Load(di, dots + t + i * kLanes));
      sum[i] = hn::Add(sum[i], CoarseExp2(hn::MulSub(dot, factor, shift)));
    }
  }
  return query.base + query.step * hn::GetLane(top) +
         std::log(hn::GetLane(hn::SumOfLanes(df, hn::Add(sum[0], sum[1]))));
}

template <int kHeads>
HWY_INLINE void ScanHeads(const CodeScores& args, int first_head) {
  alignas(64) int8_t quantised[kHeads * kKernelHeadDimMax];
  alignas(64) int32_t dots[kHeads * kCodePlaneTokens];
  ScanQuery queries[kHeads];
  PrepareQueries<kHeads>(args, first_head, quantised, queries);
  const uint8_t* codes = CodePlaneCodes(args.code_plane, args.head_dim);
  for (int v = 0; v < kKeyVectors; v += kVectorsAtOnce) {
    ScanVectors<kHeads>(codes, args.head_dim, quantised, v, dots);
  }
  for (int h = 0; h < kHeads; ++h) {
    const VI largest =
        FoldDots(dots + h * kCodePlaneTokens, queries[h],
                 args.block_max + (first_head + h) * args.row_stride);
    if (args.lse == nullptr) continue;
    args.lse[first_head + h] =
        LogSumExp(dots + h * kCodePlaneTokens, largest, queries[h]);
  }
}

void CodeScoresAll(const CodeScores& args) {
  int h = 0;
  for (; h + kScanHeadsMax <= args.group; h += kScanHeadsMax) {
    ScanHeads<kScanHeadsMax>(args, h);
  }
  switch (args.group - h) {
    case 3:
      return ScanHeads<3>(args, h);
    case 2:
      return ScanHeads<2>(args, h);
    case 1:
      return ScanHeads<1>(args, h);
    default:
      return;
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
#if HWY_TARGET == HWY_AVX3_DL
HWY_POP_ATTRIBUTES
#endif
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forecache {

HWY_EXPORT(CodeScoresAll);

void CodeScoresCpu(const CodeScores& args) {
  CheckArguments(args);
  HWY_DYNAMIC_DISPATCH(CodeScoresAll)(args);
}

}  // namespace forecache
#endif  // HWY_ONCE
