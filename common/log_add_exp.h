// Sums of what is known by its logarithms.
#ifndef FORECACHE_COMMON_LOG_ADD_EXP_H_
#define FORECACHE_COMMON_LOG_ADD_EXP_H_

#include <algorithm>
#include <cmath>

namespace forecache {

// log(exp(a) + exp(b)); either may be -infinity.
inline float LogAddExp(float a, float b) {
  const float high = std::max(a, b);
  if (std::isinf(high)) return high;
  return high + std::log1p(std::exp(std::min(a, b) - high));
}

}  // namespace forecache

#endif  // FORECACHE_COMMON_LOG_ADD_EXP_H_
