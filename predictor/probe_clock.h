// How long ago each (layer, KV head) saw all the blocks.
#ifndef FORECACHE_PREDICTOR_PROBE_CLOCK_H_
#define FORECACHE_PREDICTOR_PROBE_CLOCK_H_

#include <algorithm>
#include <vector>

#include "predictor/predictor.h"
#include "predictor/selection.h"

namespace forecache {

// Counts tokens by predictions, as a Predictor is asked once a token: a policy
// calls Saw and Tick from its Observe and Predict.
//
// Threads: one thread at a time.
class ProbeClock {
 public:
  static constexpr int kNever = 1 << 30;

  explicit ProbeClock(const Predictor::Shape& shape)
      : shape_(shape),
        ages_(size_t{1} * shape.layers * shape.kv_heads, kNever) {}

  // A row came; one that saw only some blocks does not count.
  void Saw(int layer, int kv_head, const AttentionRow& row) {
    if (row.seen.empty()) ages_[HeadIndex(shape_, layer, kv_head)] = 0;
  }
  void Tick(int layer, int kv_head) {
    int& age = ages_[HeadIndex(shape_, layer, kv_head)];
    age = std::min(age + 1, kNever);
  }

  // Tokens since the last whole row, which counts as 1; kNever without one.
  int Age(int layer, int kv_head) const {
    return ages_[HeadIndex(shape_, layer, kv_head)];
  }
  // Of the layer's head that waited longest.
  int OldestOfLayer(int layer) const {
    int oldest = 0;
    for (int head = 0; head < shape_.kv_heads; ++head) {
      oldest = std::max(oldest, Age(layer, head));
    }
    return oldest;
  }

 private:
  const Predictor::Shape shape_;
  std::vector<int> ages_;
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_PROBE_CLOCK_H_
