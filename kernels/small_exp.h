// exp without a branch or a table: the compiler makes vectors of such loops.
#ifndef FORECACHE_KERNELS_SMALL_EXP_H_
#define FORECACHE_KERNELS_SMALL_EXP_H_

#include <bit>
#include <cstdint>

namespace forecache {

// exp(x) for x in [-80, 80], relative error below 2e-6.
inline float SmallExp(float x) {
  constexpr float kLog2E = 1.44269504f;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: rounds to whole numbers
  const float t = x * kLog2E;
  const float shifted = t + kRound;
  const float f = t - (shifted - kRound);  // in [-0.5, 0.5]
  float p = 1.3333558e-3f;
  p = p * f + 9.6181291e-3f;
  p = p * f + 5.5504109e-2f;
  p = p * f + 2.4022651e-1f;
  p = p * f + 6.9314718e-1f;
  p = p * f + 1.0f;
  const uint32_t exponent = std::bit_cast<uint32_t>(shifted) << 23;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(p) + exponent);
}

}  // namespace forecache

#endif  // FORECACHE_KERNELS_SMALL_EXP_H_
