// EncodeCodePlane for rotated 2-bit codes: the same bytes as the
// specification's, sooner.  The 16 tokens of a block lie side by side, and each
// goes through the same chain of f32 operations as there.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/code_plane.h"
#include "kernels/cpu/code_scan.h"
#include "kernels/cpu/targets.h"
#include "kernels/rotation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rotated_plane.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void EncodeRotated(const std::byte* keys, KvType type, int head_dim,
                   std::byte* plane) {
  EncodeCodePlaneRef(CodeKind::k2BitRotated, keys, type, head_dim, plane);
}
#else

template <KvType kType>
HWY_INLINE void FindMean(const uint16_t* HWY_RESTRICT keys, int head_dim,
                         float* HWY_RESTRICT mean) {
  const DF df;
  const VF share = hn::Set(df, 1.0f / kCodePlaneTokens);
  for (int c = 0; c < head_dim; c += kLanes) {
    VF sum = hn::Zero(df);
    for (int t = 0; t < kCodePlaneTokens; ++t) {
      sum = hn::Add(sum, hn::Mul(LoadKv<kType>(keys + size_t(t) * head_dim + c),
                                 share));
    }
    hn::StoreU(sum, df, mean + c);
  }
}

// x[c][t] = the keys of one block less the mean.
template <KvType kType>
HWY_INLINE void LoadBlock(const uint16_t* HWY_RESTRICT keys, int head_dim,
                          const float* HWY_RESTRICT mean,
                          float* HWY_RESTRICT x) {
  const DF df;
  for (int t = 0; t < kScoreBlockTokens; ++t) {
    for (int c = 0; c < head_dim; c += kLanes) {
      alignas(64) float row[kLanes];
      hn::Store(hn::Sub(LoadKv<kType>(keys + size_t(t) * head_dim + c),
                        hn::LoadU(df, mean + c)),
                df, row);
      for (int i = 0; i < kLanes; ++i) {
        x[(c + i) * kScoreBlockTokens + t] = row[i];
      }
    }
  }
}

// kernels/rotation.h's transform of 16 keys at once.
HWY_INLINE void RotateBlock(int head_dim, float* HWY_RESTRICT x) {
  const DF df;
  const int run = RotationRun(head_dim);
  const int floats = head_dim * kScoreBlockTokens;
  FlipSigns<kScoreBlockTokens>(x, head_dim);
  for (int half = 1; half < run; half *= 2) {
    const int distance = half * kScoreBlockTokens;
    for (int at = 0; at < floats; at += 2 * distance) {
      for (int i = at; i < at + distance; i += kLanes) {
        const VF a = hn::Load(df, x + i);
        const VF b = hn::Load(df, x + i + distance);
        hn::Store(hn::Add(a, b), df, x + i);
        hn::Store(hn::Sub(a, b), df, x + i + distance);
      }
    }
  }
  const VF norm = hn::Set(df, 1.0f / std::sqrt(static_cast<float>(run)));
  for (int i = 0; i < floats; i += kLanes) {
    hn::Store(hn::Mul(hn::Load(df, x + i), norm), df, x + i);
  }
}

// Codes and norms of kLanes rotated keys, x[c] being 16 floats apart.
HWY_INLINE void EncodeLanes(const float* HWY_RESTRICT x, int head_dim,
                            uint8_t* HWY_RESTRICT codes,
                            float* HWY_RESTRICT norms) {
  const DF df;
  const hn::RebindToSigned<DF> di;
  VF squares = hn::Zero(df);
  for (int c = 0; c < head_dim; ++c) {
    const VF key = hn::Load(df, x + c * kScoreBlockTokens);
    squares = hn::Add(squares, hn::Mul(key, key));
  }
  const VF step = hn::Mul(
      hn::Set(df, kRotatedStep),
      hn::Sqrt(hn::Div(squares,
                       hn::Set(df, static_cast<float>(head_dim)))));
  const VF below = hn::Neg(step);
  const auto one = hn::Set(di, 1);
  VF along = hn::Zero(df);
  for (int run = 0; run < head_dim; run += kRotatedRunChannels) {
    // Four channels of the run, 4 apart, to each byte of a key's four.
    auto packed = hn::Zero(di);
    for (int i = 0; i < kRotatedRunChannels; ++i) {
      const VF key = hn::Load(df, x + (run + i) * kScoreBlockTokens);
      auto code = hn::IfThenElseZero(
          hn::RebindMask(di, hn::Ge(key, below)), one);
      code = hn::Add(code, hn::IfThenElseZero(
          hn::RebindMask(di, hn::Ge(key, hn::Zero(df))), one));
      code = hn::Add(code, hn::IfThenElseZero(
          hn::RebindMask(di, hn::Ge(key, step)), one));
      const VF level = hn::ConvertTo(
          df, hn::Sub(hn::Add(code, code), hn::Set(di, 3)));
      along = hn::Add(along, hn::Mul(key, level));
      packed = hn::Or(packed, hn::ShiftLeftSame(code, i % 4 * 8 + i / 4 * 2));
    }
    hn::StoreU(packed, di,
               reinterpret_cast<int32_t*>(
                   codes + run / kRotatedRunChannels * kRunBytes));
  }
  const VF norm = hn::Min(hn::Div(squares, along), hn::Set(df, 65504.0f));
  hn::StoreU(hn::IfThenElseZero(hn::Gt(along, hn::Zero(df)), norm), df, norms);
}

template <KvType kType>
void EncodeRotatedOf(const uint16_t* HWY_RESTRICT keys, int head_dim,
                     std::byte* plane) {
  float* mean = reinterpret_cast<float*>(plane);
  uint16_t* norms = reinterpret_cast<uint16_t*>(plane + 4 * size_t(head_dim));
  uint8_t* codes =
      reinterpret_cast<uint8_t*>(norms + kCodePlaneTokens);
  FindMean<kType>(keys, head_dim, mean);
  alignas(64) float x[kKernelHeadDimMax * kScoreBlockTokens];
  float block_norms[kScoreBlockTokens];
  const size_t block = size_t(kScoreBlockTokens) * head_dim;  // keys
  for (int b = 0; b < kCodePlaneBlocks; ++b) {
    LoadBlock<kType>(keys + b * block, head_dim, mean, x);
    RotateBlock(head_dim, x);
    for (int t = 0; t < kScoreBlockTokens; t += kLanes) {
      EncodeLanes(x + t, head_dim, codes + b * block / 4 + t * 4,
                  block_norms + t);
    }
    for (int t = 0; t < kScoreBlockTokens; ++t) {
      norms[b * kScoreBlockTokens + t] = FloatToF16(block_norms[t]);
    }
  }
}

void EncodeRotated(const std::byte* keys, KvType type, int head_dim,
                   std::byte* plane) {
  const uint16_t* from = reinterpret_cast<const uint16_t*>(keys);
  if (type == KvType::kF16) {
    EncodeRotatedOf<KvType::kF16>(from, head_dim, plane);
  } else {
    EncodeRotatedOf<KvType::kBF16>(from, head_dim, plane);
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forecache {

HWY_EXPORT(EncodeRotated);

void EncodeRotatedPlaneCpu(const std::byte* keys, KvType type, int head_dim,
                           std::byte* plane) {
  HWY_DYNAMIC_DISPATCH(EncodeRotated)(keys, type, head_dim, plane);
}

}  // namespace forecache
#endif  // HWY_ONCE
