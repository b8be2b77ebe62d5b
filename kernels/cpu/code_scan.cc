// ScanCodes for 4-bit codes: integer dot products of codes with queries.
//
//   logit = scale (q . low + sum w[c] code[c]),  w[c] = q[c] scale[c]
//
// w is rounded to int8 (w ~ step * quantised).  The rounding error meets the
// codes less their centre 7.5, because the centre's part is computed exactly:
// sum w code = 7.5 sum w + step (sum quantised code - 7.5 sum quantised).
#include <algorithm>

#include "kernels/code_plane.h"
#include "kernels/cpu/code_scan.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/code_scan.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/code_dots-inl.h"
#include "kernels/cpu/code_fold-inl.h"
#include "kernels/cpu/vector-inl.h"

#ifndef FORECACHE_CODE_SCAN_ONCE
#define FORECACHE_CODE_SCAN_ONCE
namespace forecache {

// A query made ready for one plane: logit = base + step * dot.
struct ScanQuery {
  float base;
  float step;
};

}  // namespace forecache
#endif  // FORECACHE_CODE_SCAN_ONCE

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
#endif
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void Scan4Bit(const CodeScan& args) { ScanCodesRef(args); }
#else

// Quantises the queries of kHeads heads for this plane.
template <int kHeads>
HWY_INLINE void PrepareQueries(const CodeScan& args, const std::byte* plane,
                               int first_head, int8_t* HWY_RESTRICT quantised,
                               ScanQuery* HWY_RESTRICT queries) {
  const DF df;
  const DI di;
  const hn::Rebind<int8_t, DF> di8;
  const int head_dim = args.head_dim;
  const float* HWY_RESTRICT q = args.q + size_t(first_head) * head_dim;
  const float* HWY_RESTRICT low = CodePlaneLow(plane);
  const float* HWY_RESTRICT scale = CodePlaneScale(plane, head_dim);
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
                 quantised + h * head_dim + c);
    }
  }
  StoreReduced4(di, Sum(), sum, sums);
  for (int h = 0; h < kHeads; ++h) {
    const float step = largest[h] / 127.0f;
    const float centre = kCodeCentre * step * static_cast<float>(sums[h]);
    queries[h] = {(offsets[h] - centre) * args.scale, step * args.scale};
  }
}

// values[h][t] = codes of token t . quantised query h, for kVectorsAtOnce
// vectors of keys from vector `first` on.  The cache gets what lies `ahead`
// bytes behind them.
template <int kHeads>
HWY_NOINLINE void ScanVectors(const uint8_t* HWY_RESTRICT codes, int head_dim,
                              const int8_t* HWY_RESTRICT quantised, int first,
                              ptrdiff_t ahead, float* HWY_RESTRICT values) {
  const DF df;
  const DI di;
  const VI nibbles = hn::Set(di, 0x0F0F0F0F);
  const uint8_t* from[kVectorsAtOnce];
#pragma GCC unroll 4
  for (int v = 0; v < kVectorsAtOnce; ++v) {
    from[v] = KeyVectorCodes(codes, size_t(head_dim) * 8, first + v);
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
      const uint8_t* at = from[v] + c * kRunChannels;
      if (v % kVectorsOfBlock == 0) PrefetchPlane(at + ahead);
      const VI both = hn::LoadU(di, reinterpret_cast<const int32_t*>(at));
      low[v] = hn::And(both, nibbles);
      high[v] = hn::And(hn::ShiftRight<4>(both), nibbles);
    }
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const int8_t* q = quantised + h * head_dim + c;
#pragma GCC unroll 4
      for (int v = 0; v < kVectorsAtOnce; ++v) {
        acc[h][v] =
            AddDots(acc[h][v], low[v], high[v], FourAt(q), FourAt(q + 4));
      }
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectorsAtOnce; ++v) {
      hn::Store(hn::ConvertTo(df, acc[h][v]), df,
                values + h * kCodePlaneTokens + (first + v) * kLanes);
    }
  }
}

struct PlaneScan4Bit {
  template <int kHeads>
  HWY_INLINE void Heads(int plane, int first_head, ptrdiff_t ahead,
                        ScanSum* sums) const {
    const std::byte* bytes = args.planes[plane];
    alignas(64) int8_t quantised[kHeads * kKernelHeadDimMax];
    ScanQuery queries[kHeads];
    PrepareQueries<kHeads>(args, bytes, first_head, quantised, queries);
    alignas(64) float values[kHeads * kCodePlaneTokens];
    const uint8_t* codes = CodePlaneCodes(bytes, args.head_dim);
    for (int v = 0; v < kKeyVectors; v += kVectorsAtOnce) {
      ScanVectors<kHeads>(codes, args.head_dim, quantised, v, ahead, values);
    }
    float* block_max = BlockMaxOf(args, plane, first_head);
    for (int h = 0; h < kHeads; ++h) {
      FoldPlane(values + h * kCodePlaneTokens, queries[h].base,
                queries[h].step, block_max + h * args.row_stride,
                LogitsOf(args, plane, first_head + h),
                sums == nullptr ? nullptr : sums + first_head + h);
    }
  }

  const CodeScan& args;
};

void Scan4Bit(const CodeScan& args) {
  ScanPlanes(args, PlaneScan4Bit{args}, 8 * size_t(args.head_dim));
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

HWY_EXPORT(Scan4Bit);

void Scan4BitCpu(const CodeScan& args) {
  HWY_DYNAMIC_DISPATCH(Scan4Bit)(args);
}

}  // namespace forecache
#endif  // HWY_ONCE
