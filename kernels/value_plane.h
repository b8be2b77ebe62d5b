// Value planes: what of a segment a store attends to near the data.
//
// A value plane is a compact copy of the values of one segment (256 tokens,
// full) of one (layer, KV head), with the mean key of each of its 16 blocks.
// With the logits that a scan of the code plane gave (kernels/code_scan.h) it
// yields a share of attention without K and V themselves:
//
//   sum over tokens t of w[t] v[t]   and   sum over tokens t of w[t] k[t]
//
//   v[t][c] ~ low[c] + scale[c] * code[t][c], codes of 4 bits
//   k[t]    ~ what the code plane of 4 bits has, else t's block's mean key
//
// The bytes:
//
//   float low[head_dim]
//   float scale[head_dim]
//   f16   mean_key[16][head_dim]
//   codes: for each block of 16 tokens, for each run of 16 channels, 2 x 64
//          bytes: byte 4 * c + j of the first 64 holds the codes of channel c
//          of the run: token j in its low half, token 4 + j in its high half;
//          the second 64 hold tokens 8 to 15 in the same way
//
// So a 64-byte load has 16 channels in its 32-bit lanes, and the four bytes of
// a lane meet the weights of four tokens in one integer dot product.
//
// Numbers are little-endian; planes start at multiples of 64 bytes.  Stored
// planes depend on this layout: a change needs a new version of the disk's
// format.
#ifndef FORECACHE_KERNELS_VALUE_PLANE_H_
#define FORECACHE_KERNELS_VALUE_PLANE_H_

#include <cstddef>
#include <cstdint>

#include "common/half.h"
#include "kernels/block_scores.h"

namespace forecache {

inline constexpr int kValueRunChannels = 16;
inline constexpr int kValueRunBytes = 128;  // of a block and a run
inline constexpr float kF16Max = 65504.0f;

size_t ValuePlaneBytes(int head_dim);

// Makes the value plane of 256 keys and values [256][head_dim].  Deterministic:
// the same input gives the same bytes on every CPU.  `plane` is aligned to 64.
// REQUIRES: keys and values are finite.
void EncodeValuePlaneRef(const std::byte* keys, const std::byte* values,
                         KvType type, int head_dim, std::byte* plane);
void EncodeValuePlane(const std::byte* keys, const std::byte* values,
                      KvType type, int head_dim, std::byte* plane);

// The values that a plane stands for, f32 [256][head_dim], and the mean keys,
// [16][head_dim]: for tests.
void DecodeValuePlane(const std::byte* plane, int head_dim, float* values,
                      float* mean_keys);

// One query group's weights against one plane: adds to sums over many.
//
// A token's weight is exp(logit - lse).  The cpu backend rounds weights to
// int8, for values with the largest of the block as 127, for keys with the
// largest of the plane, keeps their sum over the plane, and leaves out blocks
// whose largest weight is below e^-kValueReach.
struct ValueScan {
  int head_dim = 0;
  int group = 0;                     // query heads
  const std::byte* plane = nullptr;  // aligned to 64
  // The keys' code plane of kind k4Bit, aligned to 64.  Null where they have
  // another kind: then a block's mean key stands for each of its keys.
  const std::byte* code_plane = nullptr;
  uint32_t blocks = 0;               // bit b: block b counts
  // Of the plane's tokens: [group] rows of 256, `logit_stride` floats apart.
  const float* logits = nullptr;
  size_t logit_stride = 0;
  // The largest logit of each block: [group] rows of 16, `row_stride` apart.
  const float* block_max = nullptr;
  size_t row_stride = 0;
  const float* lse = nullptr;  // [group], finite; no logit is far above it
  float* mass = nullptr;       // [group]: gets the sum of the weights
  float* keys = nullptr;       // [group][head_dim]: of weights times keys
  float* values = nullptr;     // [group][head_dim]: of weights times values
};

inline constexpr float kValueReach = 14.0f;

// Threads: safe to call from any thread on distinct outputs.
void ScanValuesRef(const ValueScan& args);
void ScanValuesCpu(const ValueScan& args);

// Layout.
inline const float* ValuePlaneLow(const std::byte* plane) {
  return reinterpret_cast<const float*>(plane);
}
inline const float* ValuePlaneScale(const std::byte* plane, int head_dim) {
  return reinterpret_cast<const float*>(plane) + head_dim;
}
inline const uint16_t* ValuePlaneMeanKey(const std::byte* plane, int head_dim,
                                         int block) {
  return reinterpret_cast<const uint16_t*>(plane + 8 * size_t(head_dim)) +
         size_t(block) * head_dim;
}
// The codes of a block.
inline const uint8_t* ValuePlaneCodes(const std::byte* plane, int head_dim,
                                      int block) {
  const size_t headers =
      8 * size_t(head_dim) + 2 * size_t(kCodePlaneBlocks) * head_dim;
  return reinterpret_cast<const uint8_t*>(plane) + headers +
         size_t(block) * (head_dim / kValueRunChannels) * kValueRunBytes;
}
// Where the code of a block's `token` and `channel` lies in the block's codes,
// and whether in the high half.
inline size_t ValueCodeByte(int token, int channel) {
  return size_t(channel / kValueRunChannels) * kValueRunBytes +
         size_t(token / 8) * 64 + size_t(channel % kValueRunChannels) * 4 +
         token % 4;
}
inline bool ValueCodeIsHigh(int token) { return token % 8 >= 4; }

}  // namespace forecache

#endif  // FORECACHE_KERNELS_VALUE_PLANE_H_
