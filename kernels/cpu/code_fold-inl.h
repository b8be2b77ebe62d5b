// The walk over a scan's planes, and the way from the dot products of one plane
// to block maxima and log-sum-exp.  Included once for each instruction set,
// inside Highway's namespaces.
#if defined(FORECACHE_KERNELS_CPU_CODE_FOLD_INL_H_) == \
    defined(HWY_TARGET_TOGGLE)
#ifdef FORECACHE_KERNELS_CPU_CODE_FOLD_INL_H_
#undef FORECACHE_KERNELS_CPU_CODE_FOLD_INL_H_
#else
#define FORECACHE_KERNELS_CPU_CODE_FOLD_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "kernels/cpu/code_dots-inl.h"
#include "kernels/cpu/code_scan.h"

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
#endif
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR

// 2^x for x <= 0 and its like.  With AVX-512 to the nearest 32nd of x, within
// 1.1 %: codes are coarser than that, and the errors of several keys cancel.
//
// Threads: safe to call from any thread.
class CoarseExp2 {
 public:
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  HWY_INLINE CoarseExp2() {
    // 2^(i / 32), less what shifting i itself into the exponent will add.
    alignas(64) static constexpr int32_t kTable[32] = {
        0x3F800000, 0x3F7ECD87, 0x3F7DAAC3, 0x3F7C980F, 0x3F7B95C2, 0x3F7AA43A,
        0x3F79C3D3, 0x3F78F4F0, 0x3F7837F0, 0x3F778D3A, 0x3F76F532, 0x3F767043,
        0x3F75FED7, 0x3F75A15B, 0x3F75583F, 0x3F7523F6, 0x3F7504F3, 0x3F74FBAF,
        0x3F7508A4, 0x3F752C4D, 0x3F75672A, 0x3F75B9BE, 0x3F76248C, 0x3F76A81E,
        0x3F7744FD, 0x3F77FBB8, 0x3F78CCDF, 0x3F79B907, 0x3F7AC0C7, 0x3F7BE4BA,
        0x3F7D257D, 0x3F7E83B3};
    lower_ = _mm512_load_si512(kTable);
    upper_ = _mm512_load_si512(kTable + 16);
  }
  HWY_INLINE VF operator()(VF x) const {
    const DF df;
    x = hn::Max(x, hn::Set(df, -125.0f));
    // 1.5 * 2^18: the sum's last bits are x in 32nds.
    const __m512i bits =
        _mm512_castps_si512(hn::Add(x, hn::Set(df, 393216.0f)).raw);
    const __m512i fraction = _mm512_permutex2var_epi32(lower_, bits, upper_);
    return VF{_mm512_castsi512_ps(
        _mm512_add_epi32(fraction, _mm512_slli_epi32(bits, 18)))};
  }

 private:
  __m512i lower_, upper_;
#else
  HWY_INLINE VF operator()(VF x) const { return Exp2(x); }
#endif
};

// The largest value of each block.
HWY_INLINE void BlockLargest(const float* HWY_RESTRICT values,
                             float* HWY_RESTRICT largest) {
  const DF df;
  VF parts[4];
#pragma GCC unroll 4
  for (int quad = 0; quad < 4; ++quad) {
    VF row[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float* block = values + (quad * 4 + i) * kScoreBlockTokens;
      row[i] = hn::Load(df, block);
#pragma GCC unroll 4
      for (int v = 1; v < kVectorsOfBlock; ++v) {
        row[i] = hn::Max(row[i], hn::Load(df, block + v * kLanes));
      }
    }
    parts[quad] = ReduceParts(df, Largest(), row[0], row[1], row[2], row[3]);
  }
  StoreReduced16(df, Largest(), parts[0], parts[1], parts[2], parts[3],
                 largest);
}

HWY_INLINE void RaiseTop(float top, ScanSum* sum) {
  const DF df;
  const VF factor = hn::Set(df, std::exp(sum->top - top));
  hn::Store(hn::Mul(hn::Load(df, sum->lanes), factor), df, sum->lanes);
  sum->top = top;
}

// Adds exp(base + step * values - top) of the blocks in `blocks` to the sum.
HWY_INLINE void AddBlocks(const float* HWY_RESTRICT values, uint32_t blocks,
                          float base, float step, ScanSum* sum) {
  const DF df;
  const CoarseExp2 exp2;
  const VF factor = hn::Set(df, step * kLog2E);
  const VF shift = hn::Set(df, (base - sum->top) * kLog2E);
  VF sums[4] = {hn::Load(df, sum->lanes), hn::Zero(df), hn::Zero(df),
                hn::Zero(df)};
  if (blocks == 0xFFFF) {
    for (int t = 0; t < kCodePlaneTokens; t += 4 * kLanes) {
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        const VF value = hn::Load(df, values + t + i * kLanes);
        sums[i] = hn::Add(sums[i], exp2(hn::MulAdd(value, factor, shift)));
      }
    }
  } else {
    for (; blocks != 0; blocks &= blocks - 1) {
      const float* block =
          values + hwy::Num0BitsBelowLS1Bit_Nonzero32(blocks) *
                       kScoreBlockTokens;
#pragma GCC unroll 4
      for (int v = 0; v < kVectorsOfBlock; ++v) {
        const VF value = hn::Load(df, block + v * kLanes);
        sums[v] = hn::Add(sums[v], exp2(hn::MulAdd(value, factor, shift)));
      }
    }
  }
  hn::Store(hn::Add(hn::Add(sums[0], sums[1]), hn::Add(sums[2], sums[3])), df,
            sum->lanes);
}

// Logits are base + step * values[256]: stores all in `all` unless that is
// null, the largest of each block, and adds them to `sum` unless that is null.
// REQUIRES: step >= 0.
HWY_INLINE void FoldPlane(const float* HWY_RESTRICT values, float base,
                          float step, float* HWY_RESTRICT block_max,
                          float* HWY_RESTRICT all, ScanSum* sum) {
  const DF df;
  for (int t = 0; all != nullptr && t < kCodePlaneTokens; t += kLanes) {
    hn::StoreU(hn::MulAdd(hn::Load(df, values + t), hn::Set(df, step),
                          hn::Set(df, base)),
               df, all + t);
  }
  alignas(64) float largest[kCodePlaneBlocks];
  BlockLargest(values, largest);
  VF logits[kCodePlaneBlocks / kLanes];
  VF most = hn::Set(df, -1e30f);
#pragma GCC unroll 4
  for (int i = 0; i < kCodePlaneBlocks / kLanes; ++i) {
    logits[i] = hn::MulAdd(hn::Load(df, largest + i * kLanes),
                           hn::Set(df, step), hn::Set(df, base));
    hn::StoreU(logits[i], df, block_max + i * kLanes);
    most = hn::Max(most, logits[i]);
  }
  if (sum == nullptr) return;
  if (!hn::AllFalse(df, hn::Gt(most, hn::Set(df, sum->top)))) {
    RaiseTop(hn::GetLane(hn::MaxOfLanes(df, most)), sum);
  }
  const VF reach = hn::Set(df, sum->top - kLseReach);
  uint32_t blocks = 0;
#pragma GCC unroll 4
  for (int i = 0; i < kCodePlaneBlocks / kLanes; ++i) {
    uint8_t bits[8] = {};
    hn::StoreMaskBits(df, hn::Gt(logits[i], reach), bits);
    blocks |= uint32_t(bits[0] | bits[1] << 8) << i * kLanes;
  }
  if (blocks != 0) AddBlocks(values, blocks, base, step, sum);
}

// Scans each plane for all heads, four at a time, and stores the log-sum-exps.
// `header_bytes` come before a plane's codes.
template <typename PlaneScan>
HWY_INLINE void ScanPlanes(const CodeScan& args, const PlaneScan& scan,
                           size_t header_bytes) {
  ScanSum all_sums[kKernelGroupMax];
  ScanSum* sums = args.lse == nullptr ? nullptr : all_sums;
  for (int p = 0; p < args.plane_count; ++p) {
    const std::byte* later =
        args.planes[std::min(p + kPlanesAhead, args.plane_count - 1)];
    for (size_t i = 0; i < header_bytes; i += 64) PrefetchPlane(later + i);
    const ptrdiff_t ahead = later - args.planes[p];
    int h = 0;
    for (; h + 4 <= args.group; h += 4) {
      scan.template Heads<4>(p, h, ahead, sums);
    }
    switch (args.group - h) {
      case 3:
        scan.template Heads<3>(p, h, ahead, sums);
        break;
      case 2:
        scan.template Heads<2>(p, h, ahead, sums);
        break;
      case 1:
        scan.template Heads<1>(p, h, ahead, sums);
        break;
      default:
        break;
    }
  }
  if (sums == nullptr) return;
  for (int g = 0; g < args.group; ++g) args.lse[g] = sums[g].Lse();
}

#endif  // HWY_TARGET != HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
#if HWY_TARGET == HWY_AVX3_DL
HWY_POP_ATTRIBUTES
#endif
HWY_AFTER_NAMESPACE();

#endif  // FORECACHE_KERNELS_CPU_CODE_FOLD_INL_H_
