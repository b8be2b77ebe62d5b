#include "predictor/oracle.h"

namespace forecache {

void OraclePredictor::Reveal(int layer, int kv_head, const AttentionRow& row) {
  present_.Replace(layer, kv_head, row);
}

void OraclePredictor::Predict(int layer, int kv_head, const ChoiceRange& range,
                              int count, std::vector<BlockChoice>* choices) {
  top_.Select(present_.Row(layer, kv_head), range, count, choices);
}

}  // namespace forecache
