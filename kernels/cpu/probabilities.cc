// Probabilities out of a reply's f16 log-probabilities.
#include <algorithm>

#include "common/half.h"
#include "common/target_clones.h"
#include "kernels/block_scores.h"
#include "kernels/small_exp.h"

namespace forecache {

FC_CLONES void BlockProbabilities(const uint16_t* log_probability, float shift,
                                  int count, float* probability) {
  for (int i = 0; i < count; ++i) {
    // -infinity comes in as -65536.
    const float x = FiniteF16ToFloat(log_probability[i]) + shift;
    const float p = SmallExp(std::max(x, kNegligibleLogProbability));
    probability[i] = x > kNegligibleLogProbability ? p : 0.0f;
  }
}

}  // namespace forecache
