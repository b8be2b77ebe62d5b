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

// Quantises one head's query for this plane.
HWY_INLINE ScanQuery PrepareQuery(const CodeScores& args, int head,
                                  int8_t* HWY_RESTRICT quantised) {
  const DF df;
  const DI di;
  const hn::Rebind<int8_t, DF> di8;
  const int head_dim = args.head_dim;
  const float* HWY_RESTRICT q = args.q + size_t(head) * head_dim;
  const float* HWY_RESTRICT low = CodePlaneLow(args.code_plane);
  const float* HWY_RESTRICT scale = CodePlaneScale(args.code_plane, head_dim);
  VF most = hn::Zero(df);
  VF offset = hn::Zero(df);  // of q . low + 7.5 sum w
  const VF centre = hn::Set(df, kCodeCentre);
  for (int c = 0; c < head_dim; c += kLanes) {
    const VF query = hn::LoadU(df, q + c);
    const VF step = hn::LoadU(df, scale + c);
    most = hn::Max(most, hn::Abs(hn::Mul(query, step)));
    offset = hn::MulAdd(
        query, hn::MulAdd(centre, step, hn::LoadU(df, low + c)), offset);
  }
  const float largest = hn::GetLane(hn::MaxOfLanes(df, most));
  const float inverse = largest > 0 ? 127.0f / largest : 0.0f;
  const VF factor = hn::Set(df, inverse);
  VI sum = hn::Zero(di);
  for (int c = 0; c < head_dim; c += kLanes) {
    const VF w = hn::Mul(hn::LoadU(df, q + c), hn::LoadU(df, scale + c));
    const VI whole = hn::NearestInt(hn::Mul(w, factor));
    sum = hn::Add(sum, whole);
    hn::StoreU(hn::DemoteTo(di8, whole), di8, quantised + c);
  }
  const float step = largest / 127.0f;
  const float total = static_cast<float>(hn::GetLane(hn::SumOfLanes(di, sum)));
  const float base = hn::GetLane(hn::SumOfLanes(df, offset)) -
                     kCodeCentre * step * total;
  return {base * args.scale, step * args.scale};
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

// Dots of one head to its scores.
HWY_INLINE void FoldDots(const int32_t* HWY_RESTRICT dots,
                         const ScanQuery& query, float* HWY_RESTRICT block_max,
                         float* HWY_RESTRICT lse) {
  const DF df;
  const DI di;
  alignas(64) int32_t largest[kCodePlaneBlocks];
  BlockLargest(dots, largest);
  VI top = hn::Load(di, largest);
  for (int b = 0; b < kCodePlaneBlocks; b += kLanes) {
    const VI block = hn::Load(di, largest + b);
    top = hn::Max(top, block);
    hn::StoreU(hn::MulAdd(hn::ConvertTo(df, block), hn::Set(df, query.step),
                          hn::Set(df, query.base)),
               df, block_max + b);
  }
  // Dots are integers: relative to the largest they lose nothing.
  top = hn::MaxOfLanes(di, top);
  const VF factor = hn::Set(df, query.step * kLog2E);
  VF sum = hn::Zero(df);
  for (int t = 0; t < kCodePlaneTokens; t += kLanes) {
    const VI below = hn::Sub(hn::Load(di, dots + t), top);
    sum = hn::Add(sum, Exp2(hn::Mul(hn::ConvertTo(df, below), factor)));
  }
  const float best = static_cast<float>(hn::GetLane(top));
  *lse = query.base + query.step * best +
         std::log(hn::GetLane(hn::SumOfLanes(df, sum)));
}

template <int kHeads>
HWY_INLINE void ScanHeads(const CodeScores& args, int first_head) {
  alignas(64) int8_t quantised[kHeads * kKernelHeadDimMax];
  alignas(64) int32_t dots[kHeads * kCodePlaneTokens];
  ScanQuery queries[kHeads];
  for (int h = 0; h < kHeads; ++h) {
    queries[h] = PrepareQuery(args, first_head + h,
                              quantised + h * kKernelHeadDimMax);
  }
  const uint8_t* codes = CodePlaneCodes(args.code_plane, args.head_dim);
  for (int v = 0; v < kKeyVectors; v += kVectorsAtOnce) {
    ScanVectors<kHeads>(codes, args.head_dim, quantised, v, dots);
  }
  for (int h = 0; h < kHeads; ++h) {
    FoldDots(dots + h * kCodePlaneTokens, queries[h],
             args.block_max + (first_head + h) * args.row_stride,
             args.lse + first_head + h);
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
