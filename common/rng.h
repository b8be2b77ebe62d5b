// Randomness with a seed.  Session keys are the one exception: see kvstore.
#ifndef FORECACHE_COMMON_RNG_H_
#define FORECACHE_COMMON_RNG_H_

#include <cstdint>

namespace forecache {

// SplitMix64: tiny, seedable, good enough for tests, jitter and placement of
// load.  Not for secrets.
//
// Threads: one thread at a time.
class Rng {
 public:
  explicit Rng(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }

  // In [0, bound).  REQUIRES: bound > 0.
  uint64_t Below(uint64_t bound) { return Next() % bound; }

  // In [0, 1).
  double Uniform() { return static_cast<double>(Next() >> 11) * 0x1.0p-53; }

  // About normal, mean 0 and variance 1 (the sum of twelve uniforms).
  float Normal() {
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += Uniform();
    return static_cast<float>(sum);
  }

 private:
  uint64_t state_;
};

}  // namespace forecache

#endif  // FORECACHE_COMMON_RNG_H_
