// ScanValues: integer dot products of a block's codes with its weights,
// channels in the lanes.
//
//   sum w[t] v[t][c] = low[c] sum w[t] + scale[c] sum w[t] code[t][c]
//
// and alike for keys.  Weights are rounded to int8; what that takes off their
// sum is given back over all of the plane.
#include <algorithm>
#include <memory>

#include "kernels/arguments.h"
#include "kernels/code_plane.h"
#include "kernels/cpu/targets.h"
#include "kernels/value_plane.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/value_scan.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/code_dots-inl.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
#if HWY_TARGET == HWY_AVX3_DL
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni")
#endif
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void ScanValues(const ValueScan& args) { ScanValuesRef(args); }
#else

// The weights of one head in a plane.
//
// Threads: one thread.
struct HeadWeights {
  alignas(64) float exact[kCodePlaneTokens];
  alignas(64) float largest[kCodePlaneBlocks];  // of each block
  uint32_t blocks = 0;                          // within reach
  float mass = 0;                               // sum of the exact ones
};

// Threads: one thread.
struct ValueScratch {
  HeadWeights weights;
  alignas(64) float sums[kKernelHeadDimMax];
};

// On the heap: a thread's own memory comes off its stack, which may be small.
ValueScratch& ThreadValueScratch() {
  static thread_local const auto scratch = std::make_unique<ValueScratch>();
  return *scratch;
}

HWY_INLINE void Exponentials(const float* HWY_RESTRICT logits, float lse,
                             float* HWY_RESTRICT weights) {
  const DF df;
  const VF factor = hn::Set(df, kLog2E);
  const VF shift = hn::Set(df, -lse * kLog2E);
  for (int t = 0; t < 16; t += kLanes) {
    hn::Store(Exp2(hn::MulAdd(hn::LoadU(df, logits + t), factor, shift)), df,
              weights + t);
  }
}

// int8 of 16 weights times `factor`; returns their sum.
HWY_INLINE int Round16(const float* HWY_RESTRICT weights, float factor,
                       int8_t* HWY_RESTRICT rounded) {
  const DF df;
  const hn::Rebind<int8_t, DF> di8;
  for (int t = 0; t < 16; t += kLanes) {
    const VI whole = hn::NearestInt(
        hn::Mul(hn::Load(df, weights + t), hn::Set(df, factor)));
    hn::StoreU(hn::DemoteTo(di8, whole), di8, rounded + t);
  }
  const hn::Full128<uint8_t> du8;
  const hn::Full128<uint64_t> du64;
  alignas(16) uint64_t halves[2];
  hn::Store(hn::SumsOf8(hn::LoadU(du8,
                                  reinterpret_cast<const uint8_t*>(rounded))),
            du64, halves);
  return static_cast<int>(halves[0] + halves[1]);
}

// False when all of the head's blocks are out of reach.
HWY_INLINE bool Weigh(const ValueScan& args, int head, HeadWeights* weights) {
  const DF df;
  const float* HWY_RESTRICT logits =
      args.logits + size_t(head) * args.logit_stride;
  const float lse = args.lse[head];
  Exponentials(args.block_max + size_t(head) * args.row_stride, lse,
               weights->largest);
  const float least = std::exp(-kValueReach);
  VF sum = hn::Zero(df);
  weights->blocks = 0;
  for (uint32_t left = args.blocks; left != 0; left &= left - 1) {
    const int block =
        static_cast<int>(hwy::Num0BitsBelowLS1Bit_Nonzero32(left));
    if (!(weights->largest[block] > least)) continue;
    weights->blocks |= 1u << block;
    float* exact = weights->exact + block * kScoreBlockTokens;
    Exponentials(logits + block * kScoreBlockTokens, lse, exact);
    for (int t = 0; t < kScoreBlockTokens; t += kLanes) {
      sum = hn::Add(sum, hn::Load(df, exact + t));
    }
  }
  weights->mass = hn::GetLane(hn::SumOfLanes(df, sum));
  return weights->blocks != 0;
}

// sums[c] += low[c] mass + scale[c] code_sum[c], as far as `mass` is kept.
HWY_INLINE void AddScaled(const float* HWY_RESTRICT low,
                          const float* HWY_RESTRICT scale, int head_dim,
                          float rounded_mass, float mass,
                          const float* HWY_RESTRICT code_sums,
                          float* HWY_RESTRICT sums) {
  const DF df;
  const VF whole = hn::Set(df, mass);
  const VF kept = hn::Set(df, rounded_mass > 0 ? mass / rounded_mass : 0.0f);
  for (int c = 0; c < head_dim; c += kLanes) {
    VF sum = hn::LoadU(df, sums + c);
    sum = hn::MulAdd(hn::LoadU(df, low + c), whole, sum);
    sum = hn::MulAdd(hn::Mul(hn::LoadU(df, scale + c), kept),
                     hn::Load(df, code_sums + c), sum);
    hn::StoreU(sum, df, sums + c);
  }
}

// Adds the head's values.
HWY_INLINE void AddValues(const ValueScan& args, int head,
                          const HeadWeights& weights,
                          float* HWY_RESTRICT sums) {
  const DF df;
  const DI di;
  const int head_dim = args.head_dim;
  const VI nibbles = hn::Set(di, 0x0F0F0F0F);
  std::fill_n(sums, head_dim, 0.0f);
  float rounded_mass = 0;
  for (uint32_t left = weights.blocks; left != 0; left &= left - 1) {
    const int block =
        static_cast<int>(hwy::Num0BitsBelowLS1Bit_Nonzero32(left));
    alignas(16) int8_t w[kScoreBlockTokens];
    const float largest = weights.largest[block];
    const float step = largest / 127.0f;
    rounded_mass += step * static_cast<float>(Round16(
                               weights.exact + block * kScoreBlockTokens,
                               127.0f / largest, w));
    const VF factor = hn::Set(df, step);
    const uint8_t* HWY_RESTRICT codes =
        ValuePlaneCodes(args.plane, head_dim, block);
    for (int c = 0; c < head_dim; c += kLanes) {
      const uint8_t* at = codes + c / kValueRunChannels * kValueRunBytes +
                          c % kValueRunChannels * 4;
      const VI first = hn::LoadU(di, reinterpret_cast<const int32_t*>(at));
      const VI second =
          hn::LoadU(di, reinterpret_cast<const int32_t*>(at + 64));
      VI acc = AddDots(hn::Zero(di), hn::And(first, nibbles),
                       hn::And(hn::ShiftRight<4>(first), nibbles), FourAt(w),
                       FourAt(w + 4));
      acc = AddDots(acc, hn::And(second, nibbles),
                    hn::And(hn::ShiftRight<4>(second), nibbles),
                    FourAt(w + 8), FourAt(w + 12));
      hn::Store(hn::MulAdd(hn::ConvertTo(df, acc), factor,
                           hn::Load(df, sums + c)),
                df, sums + c);
    }
  }
  AddScaled(ValuePlaneLow(args.plane), ValuePlaneScale(args.plane, head_dim),
            head_dim, rounded_mass, weights.mass, sums,
            args.values + size_t(head) * head_dim);
}

// The same of the blocks' mean keys.
HWY_INLINE void AddMeanKeys(const ValueScan& args, int head,
                            const HeadWeights& weights) {
  const DF df;
  const hn::Rebind<hwy::float16_t, DF> dh;
  float* HWY_RESTRICT sums = args.keys + size_t(head) * args.head_dim;
  for (uint32_t left = weights.blocks; left != 0; left &= left - 1) {
    const int block =
        static_cast<int>(hwy::Num0BitsBelowLS1Bit_Nonzero32(left));
    VF mass = hn::Zero(df);
    for (int t = 0; t < kScoreBlockTokens; t += kLanes) {
      mass = hn::Add(mass, hn::Load(df, weights.exact +
                                            block * kScoreBlockTokens + t));
    }
    mass = hn::SumOfLanes(df, mass);
    const auto* HWY_RESTRICT mean = reinterpret_cast<const hwy::float16_t*>(
        ValuePlaneMeanKey(args.plane, args.head_dim, block));
    for (int c = 0; c < args.head_dim; c += kLanes) {
      const VF key = hn::PromoteTo(df, hn::LoadU(dh, mean + c));
      hn::StoreU(hn::MulAdd(key, mass, hn::LoadU(df, sums + c)), df, sums + c);
    }
  }
}

// The same of the keys' codes.  There a 32-bit lane is a token and its bytes
// are channels; turned around within four lanes, a lane is a channel and its
// bytes are four tokens.
HWY_INLINE void AddKeys(const ValueScan& args, int head, HeadWeights& weights,
                        float* HWY_RESTRICT sums) {
  const DF df;
  const DI di;
  const hn::Repartition<uint8_t, DI> du8;
  alignas(16) static constexpr uint8_t kTurn[16] = {0, 4, 8,  12, 1, 5, 9,  13,
                                                    2, 6, 10, 14, 3, 7, 11, 15};
  const auto turn = hn::LoadDup128(du8, kTurn);
  const VI nibbles = hn::Set(di, 0x0F0F0F0F);
  float largest = 0;
  for (uint32_t left = weights.blocks; left != 0; left &= left - 1) {
    largest = std::max(
        largest,
        weights.largest[hwy::Num0BitsBelowLS1Bit_Nonzero32(left)]);
  }
  // Of each block within reach: four weights, four times, for each four lanes.
  alignas(64) int32_t spread[kCodePlaneBlocks][kScoreBlockTokens];
  int64_t rounded_sum = 0;
  for (uint32_t left = weights.blocks; left != 0; left &= left - 1) {
    const int block =
        static_cast<int>(hwy::Num0BitsBelowLS1Bit_Nonzero32(left));
    int8_t w[kScoreBlockTokens];
    rounded_sum += Round16(weights.exact + block * kScoreBlockTokens,
                           127.0f / largest, w);
    for (int t = 0; t < kScoreBlockTokens; t += 4) {
      std::fill_n(spread[block] + t, 4, FourAt(w + t));
    }
  }
  const VF step = hn::Set(df, largest / 127.0f);
  const uint8_t* HWY_RESTRICT codes =
      CodePlaneCodes(args.code_plane, args.head_dim);
  for (int c = 0; c < args.head_dim; c += kRunChannels) {
    VI of_low = hn::Zero(di), of_high = hn::Zero(di);
    for (uint32_t left = weights.blocks; left != 0; left &= left - 1) {
      const int block =
          static_cast<int>(hwy::Num0BitsBelowLS1Bit_Nonzero32(left));
      const uint8_t* at =
          codes + CodeOffset(block * kScoreBlockTokens, c, args.head_dim);
#pragma GCC unroll 4
      for (int v = 0; v < kVectorsOfBlock; ++v) {
        const VI both = hn::LoadU(
            di, reinterpret_cast<const int32_t*>(at + v * kLanes * 4));
        const VI turned = hn::BitCast(
            di, hn::TableLookupBytes(hn::BitCast(du8, both), turn));
        const VI w = hn::Load(di, spread[block] + v * kLanes);
        of_low = AddDots4(of_low, hn::And(turned, nibbles), w);
        of_high = AddDots4(
            of_high, hn::And(hn::ShiftRight<4>(turned), nibbles), w);
      }
    }
    // Lanes 4 i + j belong to channel j, whatever i.
    alignas(64) float parts[2][kLanes];
    hn::Store(hn::Mul(hn::ConvertTo(df, of_low), step), df, parts[0]);
    hn::Store(hn::Mul(hn::ConvertTo(df, of_high), step), df, parts[1]);
    for (int half = 0; half < 2; ++half) {
      for (int j = 0; j < 4; ++j) {
        float sum = 0;
        for (int i = 0; i < kLanes; i += 4) sum += parts[half][i + j];
        sums[c + half * 4 + j] = sum;
      }
    }
  }
  AddScaled(CodePlaneLow(args.code_plane),
            CodePlaneScale(args.code_plane, args.head_dim), args.head_dim,
            largest / 127.0f * static_cast<float>(rounded_sum), weights.mass,
            sums, args.keys + size_t(head) * args.head_dim);
}

void ScanValues(const ValueScan& args) {
  ValueScratch& scratch = ThreadValueScratch();
  for (int g = 0; g < args.group; ++g) {
    HeadWeights& weights = scratch.weights;
    if (!Weigh(args, g, &weights)) continue;
    args.mass[g] += weights.mass;
    AddValues(args, g, weights, scratch.sums);
    if (args.code_plane != nullptr) {
      AddKeys(args, g, weights, scratch.sums);
    } else {
      AddMeanKeys(args, g, weights);
    }
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

HWY_EXPORT(ScanValues);

void ScanValuesCpu(const ValueScan& args) {
  CheckArguments(args);
  HWY_DYNAMIC_DISPATCH(ScanValues)(args);
}

}  // namespace forecache
#endif  // HWY_ONCE
