// ScanCodes for rotated 2-bit codes.
//
//   logit = scale (q . mean + norm[t] sum w[c] level[c]),  w = the rotated q
//
// w is rounded to whole numbers (w ~ step * quantised), of which any four
// channels that share a byte have magnitudes of at most 42 together: then the
// sum of their four products fits int8.
//
// With VBMI and VNNI the products are not computed but looked up: half a byte
// of codes, two channels, has 16 possible sums, and one permutation finds 64
// of them.  The sums of a byte's halves are added in int8, four bytes of a key
// by one dot product with ones: four instructions for what would take eight.
#include <algorithm>
#include <cstring>
#include <memory>

#include "kernels/code_plane.h"
#include "kernels/cpu/code_scan.h"
#include "kernels/cpu/targets.h"
#include "kernels/rotation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rotated_scan.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/code_dots-inl.h"
#include "kernels/cpu/code_fold-inl.h"
#include "kernels/cpu/vector-inl.h"

#ifndef FORECACHE_ROTATED_SCAN_ONCE
#define FORECACHE_ROTATED_SCAN_ONCE
namespace forecache {

inline constexpr int kLevelMax = 3;
// 3 * (40 + 4 * 0.5) = 126.
inline constexpr float kQuadMagnitude = 40.0f;
inline constexpr int kRunsMax = kKernelHeadDimMax / kRotatedRunChannels;

// The queries of a scan, made ready for any plane.
struct RotatedQueries {
  alignas(64) int8_t quantised[kKernelGroupMax][kKernelHeadDimMax];
  int32_t sum[kKernelGroupMax];  // of quantised
  float step[kKernelGroupMax];   // logit of one unit and a norm of 1
  // Of half the variance of a key's noise, in steps, for a norm of 1.
  float noise[kKernelGroupMax];
  // The 16 sums of each half byte, for the lower and the upper half of the
  // four bytes of a run; of the heads that are being scanned.
  alignas(64) int8_t sums[kKernelGroupMax][kRunsMax][2][64];
};

inline RotatedQueries& ThreadRotatedQueries() {
  // On the heap: every thread of the process, of small stacks too, pays for
  // what is thread-local in place.
  thread_local const std::unique_ptr<RotatedQueries> queries =
      std::make_unique<RotatedQueries>();
  return *queries;
}

}  // namespace forecache
#endif  // FORECACHE_ROTATED_SCAN_ONCE

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
#endif
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void ScanRotated(const CodeScan& args) { ScanCodesRef(args); }
#else

HWY_INLINE VF LoadNorms(const uint16_t* HWY_RESTRICT norms) {
  return LoadKv<KvType::kF16>(norms);
}

// norm * dot - noise * norm^2: a logit in steps.
HWY_INLINE VF TimesNorm(VF dot, VF norm, float noise) {
  return hn::Mul(norm, hn::NegMulAdd(norm, hn::Set(DF(), noise), dot));
}

#if HWY_TARGET == HWY_AVX3_DL

// codes -> level * q, for four q in the bytes of `four`: `is_three` and
// `is_negative` tell the levels of each of the 64 bytes.
HWY_INLINE __m512i Products(int32_t four, __m512i place, __mmask64 is_three,
                            __mmask64 is_negative) {
  const __m512i q = _mm512_permutexvar_epi8(place, _mm512_set1_epi32(four));
  const __m512i magnitude = _mm512_mask_add_epi8(
      q, is_three, q, _mm512_add_epi8(q, q));
  return _mm512_mask_sub_epi8(magnitude, is_negative, _mm512_setzero_si512(),
                              magnitude);
}

// The tables of sums: entry 16 * j + n belongs to byte j of a key's run.
HWY_INLINE void MakeSums(int head_dim, int head, RotatedQueries* queries) {
  alignas(64) uint8_t places[64];
  uint64_t three[2] = {}, negative[2] = {};
  for (int i = 0; i < 64; ++i) {
    places[i] = static_cast<uint8_t>(i / 16);
    for (int k = 0; k < 2; ++k) {
      const int level = 2 * (i % 16 >> 2 * k & 3) - 3;
      three[k] |= uint64_t(level == 3 || level == -3) << i;
      negative[k] |= uint64_t(level < 0) << i;
    }
  }
  const __m512i place = _mm512_load_si512(places);
  for (int r = 0; r < head_dim / kRotatedRunChannels; ++r) {
    int32_t q[4];
    std::memcpy(q, queries->quantised[head] + r * kRotatedRunChannels,
                sizeof(q));
    for (int half = 0; half < 2; ++half) {
      const __m512i sums = _mm512_add_epi8(
          Products(q[2 * half], place, three[0], negative[0]),
          Products(q[2 * half + 1], place, three[1], negative[1]));
      _mm512_store_si512(queries->sums[head][r][half], sums);
    }
  }
}

// values[h][t] = the logit of token t less its base, in steps, for
// kVectorsAtOnce blocks from `first` on.
template <int kHeads>
HWY_NOINLINE void ScanBlocks(const std::byte* plane, int head_dim,
                             const RotatedQueries& queries, int first_head,
                             int first, ptrdiff_t ahead,
                             float* HWY_RESTRICT values) {
  constexpr int kBlocks = kVectorsAtOnce;
  const DF df;
  const int runs = head_dim / kRotatedRunChannels;
  const uint8_t* codes = RotatedPlaneCodes(plane, head_dim) +
                         size_t(first) * runs * kRunBytes;
  const __m512i half_byte = _mm512_set1_epi32(0x0F0F0F0F);
  const __m512i place = _mm512_set1_epi32(0x30201000);
  const __m512i ones = _mm512_set1_epi32(0x01010101);
  __m512i acc[kHeads][kBlocks];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) acc[h][b] = _mm512_setzero_si512();
  }
  for (int r = 0; r < runs; ++r) {
    __m512i low[kBlocks], high[kBlocks];
#pragma GCC unroll 4
    for (int b = 0; b < kBlocks; ++b) {
      const uint8_t* at = codes + (size_t(b) * runs + r) * kRunBytes;
      PrefetchPlane(at + ahead);
      const __m512i both = _mm512_load_si512(at);
      // (codes & half_byte) | place
      low[b] = _mm512_ternarylogic_epi32(both, half_byte, place, 0xEA);
      high[b] = _mm512_ternarylogic_epi32(_mm512_srli_epi32(both, 4),
                                          half_byte, place, 0xEA);
    }
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const __m512i low_sums =
          _mm512_load_si512(queries.sums[first_head + h][r][0]);
      const __m512i high_sums =
          _mm512_load_si512(queries.sums[first_head + h][r][1]);
#pragma GCC unroll 4
      for (int b = 0; b < kBlocks; ++b) {
        const __m512i sums =
            _mm512_add_epi8(_mm512_permutexvar_epi8(low[b], low_sums),
                            _mm512_permutexvar_epi8(high[b], high_sums));
        acc[h][b] = _mm512_dpbusd_epi32(acc[h][b], ones, sums);
      }
    }
  }
  const uint16_t* norms =
      RotatedPlaneNorms(plane, head_dim) + first * kScoreBlockTokens;
#pragma GCC unroll 4
  for (int b = 0; b < kBlocks; ++b) {
    const VF norm = LoadNorms(norms + b * kScoreBlockTokens);
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const VF dot = hn::ConvertTo(df, VI{acc[h][b]});
      hn::Store(TimesNorm(dot, norm, queries.noise[first_head + h]), df,
                values + h * kCodePlaneTokens +
                    (first + b) * kScoreBlockTokens);
    }
  }
}

template <int kHeads>
HWY_INLINE void ScanKeys(const std::byte* plane, int head_dim,
                         const RotatedQueries& queries, int first_head,
                         ptrdiff_t ahead, float* HWY_RESTRICT values) {
  for (int b = 0; b < kCodePlaneBlocks; b += kVectorsAtOnce) {
    ScanBlocks<kHeads>(plane, head_dim, queries, first_head, b, ahead, values);
  }
}

#else

HWY_INLINE void MakeSums(int, int, RotatedQueries*) {}

// As above, by products: sum q level = 2 sum q code - 3 sum q.
template <int kHeads>
HWY_NOINLINE void ScanVectors(const std::byte* plane, int head_dim,
                              const RotatedQueries& queries, int first_head,
                              int first, ptrdiff_t ahead,
                              float* HWY_RESTRICT values) {
  const DF df;
  const DI di;
  const VI ones = hn::Set(di, 0x03030303);
  const int runs = head_dim / kRotatedRunChannels;
  const uint8_t* from[kVectorsAtOnce];
#pragma GCC unroll 4
  for (int v = 0; v < kVectorsAtOnce; ++v) {
    from[v] = KeyVectorCodes(RotatedPlaneCodes(plane, head_dim),
                             size_t(runs) * kRunBytes, first + v);
  }
  VI acc[kHeads][kVectorsAtOnce];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectorsAtOnce; ++v) acc[h][v] = hn::Zero(di);
  }
  for (int r = 0; r < runs; ++r) {
    VI codes[kVectorsAtOnce][4];
#pragma GCC unroll 4
    for (int v = 0; v < kVectorsAtOnce; ++v) {
      const uint8_t* at = from[v] + r * kRunBytes;
      if (v % kVectorsOfBlock == 0) PrefetchPlane(at + ahead);
      const VI all = hn::LoadU(di, reinterpret_cast<const int32_t*>(at));
      codes[v][0] = hn::And(all, ones);
      codes[v][1] = hn::And(hn::ShiftRight<2>(all), ones);
      codes[v][2] = hn::And(hn::ShiftRight<4>(all), ones);
      codes[v][3] = hn::And(hn::ShiftRight<6>(all), ones);
    }
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      int32_t q[4];
      std::memcpy(
          q, queries.quantised[first_head + h] + r * kRotatedRunChannels,
          sizeof(q));
#pragma GCC unroll 4
      for (int v = 0; v < kVectorsAtOnce; ++v) {
        acc[h][v] =
            AddDots(acc[h][v], codes[v][0], codes[v][1], q[0], q[1]);
        acc[h][v] =
            AddDots(acc[h][v], codes[v][2], codes[v][3], q[2], q[3]);
      }
    }
  }
  const uint16_t* norms = RotatedPlaneNorms(plane, head_dim) + first * kLanes;
#pragma GCC unroll 4
  for (int v = 0; v < kVectorsAtOnce; ++v) {
    const VF norm = LoadNorms(norms + v * kLanes);
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const VI dot = hn::Sub(hn::Add(acc[h][v], acc[h][v]),
                             hn::Set(di, kLevelMax *
                                             queries.sum[first_head + h]));
      hn::Store(TimesNorm(hn::ConvertTo(df, dot), norm,
                          queries.noise[first_head + h]),
                df, values + h * kCodePlaneTokens + (first + v) * kLanes);
    }
  }
}

template <int kHeads>
HWY_INLINE void ScanKeys(const std::byte* plane, int head_dim,
                         const RotatedQueries& queries, int first_head,
                         ptrdiff_t ahead, float* HWY_RESTRICT values) {
  for (int v = 0; v < kKeyVectors; v += kVectorsAtOnce) {
    ScanVectors<kHeads>(plane, head_dim, queries, first_head, v, ahead,
                        values);
  }
}

#endif  // HWY_TARGET == HWY_AVX3_DL

// scale * q . mean of each head.
template <int kHeads>
HWY_INLINE void MeanLogits(const CodeScan& args, const float* mean,
                           int first_head, float* logits) {
  const DF df;
  const float* q = args.q + size_t(first_head) * args.head_dim;
  VF sums[kScanHeadsMax];
#pragma GCC unroll 4
  for (int h = 0; h < kScanHeadsMax; ++h) sums[h] = hn::Zero(df);
  for (int c = 0; c < args.head_dim; c += kLanes) {
    const VF m = hn::Load(df, mean + c);
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      sums[h] = hn::MulAdd(hn::LoadU(df, q + size_t(h) * args.head_dim + c),
                           m, sums[h]);
    }
  }
  alignas(64) float dots[kScanHeadsMax];
  StoreReduced4(df, Sum(), sums, dots);
  for (int h = 0; h < kHeads; ++h) logits[h] = args.scale * dots[h];
}

// Rounds the rotated query w of `head`.
HWY_INLINE void RoundQuery(const float* HWY_RESTRICT w, int head,
                           const CodeScan& args, RotatedQueries* queries) {
  const DF df;
  const DI di;
  const hn::Rebind<int8_t, DF> di8;
  const hn::Full128<float> d4;
  auto most = hn::Zero(d4);  // lane j: of the channels of byte j
  for (int c = 0; c < args.head_dim; c += kRotatedRunChannels) {
    auto quad = hn::Abs(hn::Load(d4, w + c));
    for (int f = 4; f < kRotatedRunChannels; f += 4) {
      quad = hn::Add(quad, hn::Abs(hn::Load(d4, w + c + f)));
    }
    most = hn::Max(most, quad);
  }
  const float largest = hn::GetLane(hn::MaxOfLanes(d4, most));
  const VF factor =
      hn::Set(df, largest > 0 ? kQuadMagnitude / largest : 0.0f);
  VI sum = hn::Zero(di);
  VF squares = hn::Zero(df);
  for (int c = 0; c < args.head_dim; c += kLanes) {
    const VF q = hn::Load(df, w + c);
    const VI whole = hn::NearestInt(hn::Mul(q, factor));
    sum = hn::Add(sum, whole);
    squares = hn::MulAdd(q, q, squares);
    hn::StoreU(hn::DemoteTo(di8, whole), di8, queries->quantised[head] + c);
  }
  const float step = largest / kQuadMagnitude * args.scale;
  const float variance = kRotatedNoise * args.scale * args.scale *
                         hn::GetLane(hn::SumOfLanes(df, squares));
  queries->sum[head] = hn::GetLane(hn::SumOfLanes(di, sum));
  queries->step[head] = step;
  queries->noise[head] = step > 0 ? variance / 2 / step : 0.0f;
}

// Makes the queries of up to four heads ready: rotates them side by side.
void MakeQueries(const CodeScan& args, int first_head, int heads,
                 RotatedQueries* queries) {
  const int head_dim = args.head_dim;
  alignas(64) float x[kScanHeadsMax * kKernelHeadDimMax] = {};
  for (int h = 0; h < heads; ++h) {
    const float* q = args.q + size_t(first_head + h) * head_dim;
    for (int c = 0; c < head_dim; ++c) x[c * kScanHeadsMax + h] = q[c];
  }
  RotateVectors<kScanHeadsMax>(x, head_dim);
  alignas(64) float w[kKernelHeadDimMax];
  for (int h = 0; h < heads; ++h) {
    for (int c = 0; c < head_dim; ++c) w[c] = x[c * kScanHeadsMax + h];
    RoundQuery(w, first_head + h, args, queries);
    MakeSums(head_dim, first_head + h, queries);
  }
}

struct PlaneScanRotated {
  template <int kHeads>
  HWY_INLINE void Heads(int plane, int first_head, ptrdiff_t ahead,
                        ScanSum* sums) const {
    const std::byte* bytes = args.planes[plane];
    float bases[kHeads];
    MeanLogits<kHeads>(args, RotatedPlaneMean(bytes), first_head, bases);
    alignas(64) float values[kHeads * kCodePlaneTokens];
    ScanKeys<kHeads>(bytes, args.head_dim, queries, first_head, ahead,
                     values);
    for (int h = 0; h < kHeads; ++h) {
      const int head = first_head + h;
      FoldPlane(values + h * kCodePlaneTokens, bases[h], queries.step[head],
                BlockMaxOf(args, plane, head), LogitsOf(args, plane, head),
                sums == nullptr ? nullptr : sums + head);
    }
  }

  const CodeScan& args;
  const RotatedQueries& queries;
};

void ScanRotated(const CodeScan& args) {
  RotatedQueries& queries = ThreadRotatedQueries();
  for (int h = 0; h < args.group; h += kScanHeadsMax) {
    MakeQueries(args, h, std::min(kScanHeadsMax, args.group - h), &queries);
  }
  ScanPlanes(args, PlaneScanRotated{args, queries},
             4 * size_t(args.head_dim) + 2 * kCodePlaneTokens);
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

HWY_EXPORT(ScanRotated);

void ScanRotatedCpu(const CodeScan& args) {
  HWY_DYNAMIC_DISPATCH(ScanRotated)(args);
}

}  // namespace forecache
#endif  // HWY_ONCE
