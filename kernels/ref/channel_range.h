// The range of one channel of a plane's 256 keys or values: what its codes of
// 4 bits count from, and by which step.
#ifndef FORECACHE_KERNELS_REF_CHANNEL_RANGE_H_
#define FORECACHE_KERNELS_REF_CHANNEL_RANGE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "common/half.h"
#include "kernels/code_plane.h"

namespace forecache {

// Threads: a value.
struct ChannelRange {
  float low, scale, inverse;  // scale and inverse are 0 where all is one value
};

// `rows` is [kCodePlaneTokens][head_dim].
inline ChannelRange FindChannelRange(const uint16_t* rows, KvType type,
                                     int head_dim, int channel) {
  float low = KvToFloat(type, rows[channel]);
  float high = low;
  for (int t = 1; t < kCodePlaneTokens; ++t) {
    const float x = KvToFloat(type, rows[size_t(t) * head_dim + channel]);
    low = std::min(low, x);
    high = std::max(high, x);
  }
  low += 0.0f;  // -0 and +0 compare equal but have other bytes
  float scale = (high - low) / kCodeMax;
  if (!(scale >= kCodeScaleMin)) scale = 0;
  return {low, scale, scale > 0 ? 1.0f / scale : 0.0f};
}

}  // namespace forecache

#endif  // FORECACHE_KERNELS_REF_CHANNEL_RANGE_H_
