#include "predictor/stream.h"

#include "predictor/selection.h"

namespace forecache {

void StreamPredictor::Predict(int layer, int kv_head, const ChoiceRange& range,
                              int count, std::vector<BlockChoice>* choices) {
  CheckChoice(range, count);
  choices->clear();
}

}  // namespace forecache
