#include "predictor/full.h"

#include "predictor/selection.h"

namespace forecache {

void FullPredictor::Predict(int layer, int kv_head, const ChoiceRange& range,
                            int count, std::vector<BlockChoice>* choices) {
  CheckChoice(range, count);
  choices->clear();
  for (int b = range.end; b > range.first && count > 0; --count) {
    choices->push_back({--b, 1.0f});
  }
}

}  // namespace forecache
