#include "predictor/recycled.h"

#include "common/check.h"

namespace forecache {

RecycledPredictor::RecycledPredictor(const Shape& shape, int steps)
    : steps_(steps), history_(shape), clock_(shape) {
  FC_CHECK(steps > 0) << "steps=" << steps;
}

void RecycledPredictor::Observe(int layer, int kv_head,
                                const AttentionRow& row) {
  if (!row.seen.empty()) return;
  history_.Replace(layer, kv_head, row);
  clock_.Saw(layer, kv_head, row);
}

void RecycledPredictor::Predict(int layer, int kv_head,
                                const ChoiceRange& range, int count,
                                std::vector<BlockChoice>* choices) {
  clock_.Tick(layer, kv_head);
  top_.Select(history_.Row(layer, kv_head), range, count, choices);
}

bool RecycledPredictor::WantsProbe(int layer) const {
  return clock_.OldestOfLayer(layer) >= steps_;
}

bool RecycledPredictor::WantsProbeOfHead(int layer, int kv_head) const {
  return clock_.Age(layer, kv_head) >= steps_;
}

}  // namespace forecache
