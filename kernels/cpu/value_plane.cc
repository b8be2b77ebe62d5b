// EncodeValuePlane: the same bytes as the specification's, sooner.
//
// Each step is one IEEE f32 operation, as there; no fused multiply-add.
#include "kernels/value_plane.h"

#include <cstring>

#include "common/check.h"
#include "kernels/arguments.h"
#include "kernels/code_plane.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/value_plane.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/channel_range-inl.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void EncodeValues(const std::byte* keys, const std::byte* values, KvType type,
                  int head_dim, std::byte* plane) {
  EncodeValuePlaneRef(keys, values, type, head_dim, plane);
}
#else

// The mean of a block's keys, in f16.
template <KvType kType>
HWY_INLINE void EncodeMeanKey(const uint16_t* HWY_RESTRICT keys, int head_dim,
                              uint16_t* HWY_RESTRICT mean) {
  const DF df;
  alignas(64) float sums[kLanes];
  for (int c = 0; c < head_dim; c += kLanes) {
    VF sum = hn::Zero(df);
    for (int t = 0; t < kScoreBlockTokens; ++t) {
      sum = hn::Add(sum, hn::Mul(LoadKv<kType>(keys + size_t(t) * head_dim + c),
                                 hn::Set(df, 1.0f / kScoreBlockTokens)));
    }
    sum = hn::Max(hn::Set(df, -kF16Max), hn::Min(sum, hn::Set(df, kF16Max)));
    hn::Store(sum, df, sums);
    for (int i = 0; i < kLanes; ++i) mean[c + i] = FloatToF16(sums[i]);
  }
}

// The codes of a block's values.
template <KvType kType>
HWY_INLINE void EncodeBlock(const uint16_t* HWY_RESTRICT values, int head_dim,
                            const float* HWY_RESTRICT low,
                            const float* HWY_RESTRICT inverse,
                            uint8_t* HWY_RESTRICT codes) {
  const DF df;
  const hn::RebindToSigned<DF> di;
  const hn::Rebind<uint8_t, DF> du8;
  alignas(64) uint8_t rows[kScoreBlockTokens][kKernelHeadDimMax];
  for (int t = 0; t < kScoreBlockTokens; ++t) {
    for (int c = 0; c < head_dim; c += kLanes) {
      const VF above =
          hn::Sub(LoadKv<kType>(values + size_t(t) * head_dim + c),
                  hn::LoadU(df, low + c));
      const auto code = hn::ConvertTo(
          di, hn::Add(hn::Mul(above, hn::LoadU(df, inverse + c)),
                      hn::Set(df, 0.5f)));
      hn::StoreU(hn::DemoteTo(du8, hn::Min(code, hn::Set(di, kCodeMax))), du8,
                 rows[t] + c);
    }
  }
  for (int c = 0; c < head_dim; ++c) {
    for (int t = 0; t < kScoreBlockTokens; t += 8) {
      uint8_t* to = codes + ValueCodeByte(t, c);
      for (int j = 0; j < 4; ++j) {
        to[j] = static_cast<uint8_t>(rows[t + j][c] | rows[t + 4 + j][c] << 4);
      }
    }
  }
}

template <KvType kType>
void EncodeValuesOf(const uint16_t* HWY_RESTRICT keys,
                    const uint16_t* HWY_RESTRICT values, int head_dim,
                    std::byte* plane) {
  float* const low = const_cast<float*>(ValuePlaneLow(plane));
  float* const scale = const_cast<float*>(ValuePlaneScale(plane, head_dim));
  alignas(64) float inverse[kKernelHeadDimMax];
  for (int c = 0; c < head_dim; c += kLanes) {
    FindRange<kType>(values + c, head_dim, low + c, scale + c, inverse + c);
  }
  for (int block = 0; block < kCodePlaneBlocks; ++block) {
    const size_t first = size_t(block) * kScoreBlockTokens * head_dim;
    EncodeMeanKey<kType>(
        keys + first, head_dim,
        const_cast<uint16_t*>(ValuePlaneMeanKey(plane, head_dim, block)));
    EncodeBlock<kType>(
        values + first, head_dim, low, inverse,
        const_cast<uint8_t*>(ValuePlaneCodes(plane, head_dim, block)));
  }
}

void EncodeValues(const std::byte* keys, const std::byte* values, KvType type,
                  int head_dim, std::byte* plane) {
  const auto* k = reinterpret_cast<const uint16_t*>(keys);
  const auto* v = reinterpret_cast<const uint16_t*>(values);
  if (type == KvType::kF16) {
    EncodeValuesOf<KvType::kF16>(k, v, head_dim, plane);
  } else {
    EncodeValuesOf<KvType::kBF16>(k, v, head_dim, plane);
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forecache {

HWY_EXPORT(EncodeValues);

void EncodeValuePlane(const std::byte* keys, const std::byte* values,
                      KvType type, int head_dim, std::byte* plane) {
  FC_CHECK(keys != nullptr && values != nullptr && plane != nullptr);
  ValuePlaneBytes(head_dim);  // checks head_dim
  HWY_DYNAMIC_DISPATCH(EncodeValues)(keys, values, type, head_dim, plane);
}

}  // namespace forecache
#endif  // HWY_ONCE
