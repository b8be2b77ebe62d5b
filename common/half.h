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

inline float KvToFloat(KvType type, uint16_t bits) {
  return type == KvType::kF16 ? F16ToFloat(bits) : BF16ToFloat(bits);
}
inline uint16_t FloatToKv(KvType type, float value) {
  return type == KvType::kF16 ? FloatToF16(value) : FloatToBF16(value);
}

}  // namespace forecache

#endif  // FORECACHE_COMMON_HALF_H_
