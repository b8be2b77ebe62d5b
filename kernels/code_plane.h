// The bytes of code planes, on disk and in memory.
//
// CodeKind::k4Bit
//
//   float low[head_dim]
//   float scale[head_dim]
//   codes: for each block of 16 tokens, for each run of 8 channels, 64 bytes:
//          byte 4 * t + j holds the codes of token t: channel j of the run in
//          its low half, channel 4 + j in its high half
//
// So one 64-byte load has the 16 keys of a block in its 32-bit lanes, and the
// four bytes of a lane meet four channels of the query in one integer dot
// product, first for the low halves, then for the high ones.
//
// CodeKind::k2BitRotated
//
//   float mean[head_dim]: of the plane's 256 keys, not rotated
//   f16   norm[256]: of each token
//   codes: for each block of 16 tokens, for each run of 16 rotated channels,
//          64 bytes: bits 2f and 2f + 1 of byte 4 * t + j hold the code of
//          token t and channel 4 * f + j of the run
//
// A code's level is 2 * code - 3, and a token's rotated key less the rotated
// mean is about norm * level.  As above a 32-bit lane is a key; and each half
// of a byte, two channels, is an index into 16 sums of two products.
//
// Numbers are little-endian; planes start at multiples of 64 bytes.  Stored
// planes depend on these layouts: a change needs a new CodeKind.
#ifndef FORECACHE_KERNELS_CODE_PLANE_H_
#define FORECACHE_KERNELS_CODE_PLANE_H_

#include <cstddef>
#include <cstdint>

#include "kernels/block_scores.h"

namespace forecache {

inline constexpr int kCodeMax = 15;
inline constexpr float kCodeCentre = 7.5f;
inline constexpr int kRunChannels = 8;  // channels of one 64-byte run
inline constexpr int kRunBytes = 64;
// A narrower spread of a channel's keys counts as none: 1 / scale is finite.
inline constexpr float kCodeScaleMin = 1e-30f;

inline const float* CodePlaneLow(const std::byte* plane) {
  return reinterpret_cast<const float*>(plane);
}
inline const float* CodePlaneScale(const std::byte* plane, int head_dim) {
  return reinterpret_cast<const float*>(plane) + head_dim;
}
inline const uint8_t* CodePlaneCodes(const std::byte* plane, int head_dim) {
  return reinterpret_cast<const uint8_t*>(plane) + 8 * size_t(head_dim);
}
inline uint8_t* CodePlaneCodes(std::byte* plane, int head_dim) {
  return reinterpret_cast<uint8_t*>(plane) + 8 * size_t(head_dim);
}

inline constexpr int kRotatedRunChannels = 16;
// A key's codes change at 0 and at +-this many times its root mean square: the
// best four equal steps for a normal variable.
inline constexpr float kRotatedStep = 0.9957f;
// What codes leave out of a key is spread evenly over its rotated channels, so
// a logit is off by a normal variable whose variance is a constant times the
// squares of its norm, of the query's length and of the scale.  A normal
// channel's best levels hold 0.8825 of its square, and the levels' mean square
// is 3.555: the first two factors.  The exponential of a noisy logit is too
// large on average, by exp(variance / 2); scans take that off.  The last factor
// is measured on a model's keys: queries lie partly along the keys that they
// find, where codes leave out nothing (0.7), and where one key has most of the
// attention, which is likelier among few keys, its noise is not averaged.
inline constexpr float kRotatedNoise = (1 - 0.8825f) * 3.555f * 0.5f;

inline const float* RotatedPlaneMean(const std::byte* plane) {
  return reinterpret_cast<const float*>(plane);
}
inline const uint16_t* RotatedPlaneNorms(const std::byte* plane,
                                         int head_dim) {
  return reinterpret_cast<const uint16_t*>(plane + 4 * size_t(head_dim));
}
inline const uint8_t* RotatedPlaneCodes(const std::byte* plane,
                                        int head_dim) {
  return reinterpret_cast<const uint8_t*>(plane) + 4 * size_t(head_dim) +
         2 * kCodePlaneTokens;
}
// Where the codes of `token` in the run of rotated `channel` begin: four bytes.
inline size_t RotatedCodeOffset(int token, int channel, int head_dim) {
  const int runs = head_dim / kRotatedRunChannels;
  const int run =
      token / kScoreBlockTokens * runs + channel / kRotatedRunChannels;
  return size_t(run) * kRunBytes + size_t(token % kScoreBlockTokens) * 4;
}

// Where the codes of `token` in the run of `channel` begin: four bytes.
inline size_t CodeOffset(int token, int channel, int head_dim) {
  const int runs = head_dim / kRunChannels;
  const int run =
      token / kScoreBlockTokens * runs + channel / kRunChannels;
  return size_t(run) * kRunBytes + size_t(token % kScoreBlockTokens) * 4;
}

}  // namespace forecache

#endif  // FORECACHE_KERNELS_CODE_PLANE_H_
