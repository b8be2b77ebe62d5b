// EncodeCodePlane: the same bytes as the specification's, sooner.
//
// Each step is one IEEE f32 operation, as there; no fused multiply-add.
#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "kernels/arguments.h"
#include "kernels/block_scores.h"
#include "kernels/code_plane.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/code_plane.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/channel_range-inl.h"
#include "kernels/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void EncodePlane(const uint16_t* keys, KvType type, int head_dim,
                 std::byte* plane) {
  EncodeCodePlaneRef(reinterpret_cast<const std::byte*>(keys), type, head_dim,
                     plane);
}
#else

template <KvType kType>
void EncodePlaneOf(const uint16_t* HWY_RESTRICT keys, int head_dim,
                   std::byte* plane) {
  const DF df;
  const hn::RebindToSigned<DF> di;
  const hn::Rebind<uint8_t, DF> du8;
  float* HWY_RESTRICT low = reinterpret_cast<float*>(plane);
  float* HWY_RESTRICT scale = low + head_dim;
  alignas(64) float inverse[kKernelHeadDimMax];
  for (int c = 0; c < head_dim; c += kLanes) {
    FindRange<kType>(keys + c, head_dim, low + c, scale + c, inverse + c);
  }
  uint8_t* HWY_RESTRICT codes = CodePlaneCodes(plane, head_dim);
  for (int t = 0; t < kCodePlaneTokens; ++t) {
    alignas(64) uint8_t row[kKernelHeadDimMax];
    const uint16_t* HWY_RESTRICT key_row = keys + size_t(t) * head_dim;
    for (int c = 0; c < head_dim; c += kLanes) {
      const VF above =
          hn::Sub(LoadKv<kType>(key_row + c), hn::LoadU(df, low + c));
      const auto code = hn::NearestInt(
          hn::Mul(above, hn::LoadU(df, inverse + c)));
      hn::StoreU(hn::DemoteTo(du8, hn::Min(code, hn::Set(di, kCodeMax))), du8,
                 row + c);
    }
    uint8_t* HWY_RESTRICT to = codes + CodeOffset(t, 0, head_dim);
    for (int c = 0; c < head_dim; c += kRunChannels, to += kRunBytes) {
      uint64_t eight;
      std::memcpy(&eight, row + c, sizeof(eight));
      // The upper four channels go into the high halves of the lower four.
      const uint32_t packed = static_cast<uint32_t>(eight | eight >> 28);
      std::memcpy(to, &packed, sizeof(packed));
    }
  }
}

void EncodePlane(const uint16_t* keys, KvType type, int head_dim,
                 std::byte* plane) {
  if (type == KvType::kF16) {
    EncodePlaneOf<KvType::kF16>(keys, head_dim, plane);
  } else {
    EncodePlaneOf<KvType::kBF16>(keys, head_dim, plane);
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forecache {

HWY_EXPORT(EncodePlane);

void EncodeCodePlane(const std::byte* keys, KvType type, int head_dim,
                     std::byte* code_plane) {
  FC_CHECK(keys != nullptr && code_plane != nullptr);
  CodePlaneBytes(head_dim);  // checks head_dim
  HWY_DYNAMIC_DISPATCH(EncodePlane)
  (reinterpret_cast<const uint16_t*>(keys), type, head_dim, code_plane);
}

}  // namespace forecache
#endif  // HWY_ONCE
