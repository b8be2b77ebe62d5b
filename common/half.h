// The 16-bit floats that keys and values are kept in.
#ifndef FORECACHE_COMMON_HALF_H_
#define FORECACHE_COMMON_HALF_H_

#include <bit>
#include <cstdint>

namespace forecache {

// How a K or V element is stored.  The numbers are on the wire and on disk.
enum class KvType : uint8_t { kF16 = 1, kBF16 = 2 };

inline constexpr int kKvElementBytes = 2;

inline float BF16ToFloat(uint16_t bits) {
  return std::bit_cast<float>(uint32_t{bits} << 16);
}

// Round to nearest, ties to even.  NaN stays NaN.
inline uint16_t FloatToBF16(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return (bits >> 16) | 0x40;
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

// IEEE 754 binary16.  Portable: the kernels have the fast forms.
float F16ToFloat(uint16_t bits);
// Round to nearest, ties to even; overflow becomes infinity.
uint16_t FloatToF16(float value);

// The same without a branch, so that the compiler makes vectors of loops.
// Infinities come in as +-65536, and NaN as something else.
inline float FiniteF16ToFloat(uint16_t bits) {
  constexpr float kUp = 0x1.0p112f;  // from f16's exponent bias to float's
  const uint32_t wide = bits;
  const float magnitude = std::bit_cast<float>((wide & 0x7FFF) << 13) * kUp;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) |
                              (wide & 0x8000) << 16);
}
// Of no NaN.  What is too large becomes infinity.
inline uint16_t NumberToF16(float value) {
  constexpr float kSubnormal = 0.5f;  // adding it aligns the last bit to 2^-24
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000;
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  const uint32_t rebiased = magnitude - 0x38000000;
  const uint32_t normal = (rebiased + 0xFFF + ((rebiased >> 13) & 1)) >> 13;
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + kSubnormal) -
      std::bit_cast<uint32_t>(kSubnormal);
  // Signed comparisons: SSE2 has no others, and magnitudes are positive.
  const int32_t size = static_cast<int32_t>(magnitude);
  uint32_t half = size < 0x38800000 ? subnormal : normal;
  half = size >= 0x477FF000 ? 0x7C00 : half;
  return static_cast<uint16_t>(sign | half);
}

inline float KvToFloat(KvType type, uint16_t bits) {
  return type == KvType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits);
}
inline uint16_t FloatToKv(KvType type, float value) {
  return type == KvType::kF16 ? FloatToF16(value) : FloatToBF16(value);
}

}  // namespace forecache

#endif  // FORECACHE_COMMON_HALF_H_
