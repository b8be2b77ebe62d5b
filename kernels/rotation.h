// The rotation of k2BitRotated code planes: a sign for each channel, then a
// Hadamard transform, normalised, of each run of P channels, P the largest
// power of two that divides head_dim.  It is orthogonal; its inverse is the
// transform first and the signs after it.
//
// The order of the sums is part of the format: each output is the same chain of
// f32 additions everywhere.
#ifndef FORECACHE_KERNELS_ROTATION_H_
#define FORECACHE_KERNELS_ROTATION_H_

#include <cmath>
#include <cstdint>

namespace forecache {

// A channel whose bit is set changes its sign.  Without signs a pattern that
// repeats along the channels would end in one channel of the result.
inline constexpr uint64_t kRotationSigns[4] = {
    0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB,
    0xD6E8FEB86659FD93};

inline bool RotationFlips(int channel) {
  return kRotationSigns[channel / 64] >> channel % 64 & 1;
}

inline int RotationRun(int head_dim) { return head_dim & -head_dim; }

// x[head_dim][kVectors]: transforms kVectors vectors side by side.
template <int kVectors>
inline void HadamardVectors(float* __restrict x, int head_dim) {
  const int run = RotationRun(head_dim);
  for (int half = 1; half < run; half *= 2) {
    for (int at = 0; at < head_dim; at += 2 * half) {
      for (int c = at; c < at + half; ++c) {
        float* __restrict a = x + c * kVectors;
        float* __restrict b = a + half * kVectors;
        for (int v = 0; v < kVectors; ++v) {
          const float sum = a[v] + b[v];
          b[v] = a[v] - b[v];
          a[v] = sum;
        }
      }
    }
  }
  const float norm = 1.0f / std::sqrt(static_cast<float>(run));
  for (int i = 0; i < head_dim * kVectors; ++i) x[i] *= norm;
}

template <int kVectors>
inline void FlipSigns(float* __restrict x, int head_dim) {
  for (int c = 0; c < head_dim; ++c) {
    if (!RotationFlips(c)) continue;
    for (int v = 0; v < kVectors; ++v) x[c * kVectors + v] *= -1.0f;
  }
}

template <int kVectors>
inline void RotateVectors(float* x, int head_dim) {
  FlipSigns<kVectors>(x, head_dim);
  HadamardVectors<kVectors>(x, head_dim);
}

}  // namespace forecache

#endif  // FORECACHE_KERNELS_ROTATION_H_
