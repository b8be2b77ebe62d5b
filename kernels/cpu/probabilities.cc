// Probabilities out of a reply's f16 log-probabilities.
#include <algorithm>
#include <bit>

#include "kernels/block_scores.h"
#include "kernels/small_exp.h"

// One clone for each instruction set, chosen when the program is loaded, before
// sanitizers are ready: the loop is plain enough for the compiler.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define FC_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FC_CLONES
#endif

namespace forecache {

FC_CLONES void BlockProbabilities(const uint16_t* log_probability, float shift,
                                  int count, float* probability) {
  constexpr float kUp = 0x1.0p112f;  // from f16's exponent bias to float's
  for (int i = 0; i < count; ++i) {
    const uint32_t bits = log_probability[i];
    const float magnitude =
        std::bit_cast<float>((bits & 0x7FFF) << 13) * kUp;
    const float x =
        std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) |
                             (bits & 0x8000) << 16) +
        shift;
    // -infinity came in as -65536.
    const float p = SmallExp(std::max(x, kNegligibleLogProbability));
    probability[i] = x > kNegligibleLogProbability ? p : 0.0f;
  }
}

}  // namespace forecache
