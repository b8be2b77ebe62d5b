#include "predictor/ema.h"

#include "common/check.h"

namespace forecache {

EmaPredictor::EmaPredictor(const Shape& shape, float alpha)
    : alpha_(alpha), history_(shape) {
  FC_CHECK(alpha > 0 && alpha <= 1) << "alpha=" << alpha;
}

void EmaPredictor::Observe(int layer, int kv_head, const AttentionRow& row) {
  history_.Blend(layer, kv_head, row, alpha_);
}

void EmaPredictor::Predict(int layer, int kv_head, const ChoiceRange& range,
                           int count, std::vector<BlockChoice>* choices) {
  top_.Select(history_.Row(layer, kv_head), range, count, choices);
}

}  // namespace forecache
