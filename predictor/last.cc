#include "predictor/last.h"

namespace forecache {

void LastPredictor::Observe(int layer, int kv_head, const AttentionRow& row) {
  history_.Replace(layer, kv_head, row);
}

void LastPredictor::Predict(int layer, int kv_head, const ChoiceRange& range,
                            int count, std::vector<BlockChoice>* choices) {
  top_.Select(history_.Row(layer, kv_head), range, count, choices);
}

}  // namespace forecache
