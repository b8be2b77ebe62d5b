// Attention rows for the tests of predictors.
#ifndef FORECACHE_TESTS_PREDICTOR_ROWS_H_
#define FORECACHE_TESTS_PREDICTOR_ROWS_H_

#include <cmath>
#include <utility>
#include <vector>

#include "common/rng.h"
#include "predictor/predictor.h"

namespace forecache {

// A row that owns its numbers.
struct OwnedRow {
  std::vector<float> probabilities;
  std::vector<int32_t> seen;
  int blocks = 0;

  AttentionRow View() const { return {probabilities, blocks, seen}; }
};

// A row of one query head, or of `group` equal ones.
inline OwnedRow RowOf(const std::vector<float>& scores, int group = 1) {
  OwnedRow row;
  row.blocks = static_cast<int>(scores.size());
  for (int head = 0; head < group; ++head) {
    row.probabilities.insert(row.probabilities.end(), scores.begin(),
                             scores.end());
  }
  return row;
}

// As attention looks: a few large probabilities, many tiny ones.
inline OwnedRow RandomRow(int blocks, int group, Rng* rng) {
  OwnedRow row;
  row.blocks = blocks;
  row.probabilities.resize(size_t{1} * blocks * group);
  for (float& p : row.probabilities) {
    p = std::exp(-12.0f * static_cast<float>(rng->Uniform()));
  }
  return row;
}

inline std::vector<int32_t> Blocks(const std::vector<BlockChoice>& choices) {
  std::vector<int32_t> blocks;
  for (const BlockChoice& choice : choices) blocks.push_back(choice.block);
  return blocks;
}

inline std::vector<int32_t> PredictBlocks(Predictor* predictor,
                                          const ChoiceRange& range, int count,
                                          int layer = 0, int kv_head = 0) {
  std::vector<BlockChoice> choices;
  predictor->Predict(layer, kv_head, range, count, &choices);
  return Blocks(choices);
}

}  // namespace forecache

#endif  // FORECACHE_TESTS_PREDICTOR_ROWS_H_
