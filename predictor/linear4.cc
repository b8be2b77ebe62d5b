#include "predictor/linear4.h"

#include <algorithm>

#include "predictor/history.h"

namespace forecache {
namespace {

// Blocks summed at a time, so that the sums stay in the first cache.
constexpr int kChunkBlocks = 256;

}  // namespace

void Linear4Predictor::Observe(int layer, int kv_head,
                               const AttentionRow& row) {
  rows_.Push(layer, kv_head, row);
}

void Linear4Predictor::Predict(int layer, int kv_head,
                               const ChoiceRange& range, int count,
                               std::vector<BlockChoice>* choices) {
  const int blocks = static_cast<int>(rows_.Row(layer, kv_head, 0).size());
  codes_.resize(blocks);
  float sums[kChunkBlocks];
  for (int first = 0; first < blocks; first += kChunkBlocks) {
    const int chunk = std::min(kChunkBlocks, blocks - first);
    std::fill_n(sums, chunk, 0.0f);
    for (int age = 0; age < kRows; ++age) {
      const uint16_t* codes = rows_.Row(layer, kv_head, age).data() + first;
      for (int i = 0; i < chunk; ++i) {
        sums[i] += kWeights[age] * DecodeScore(codes[i]);
      }
    }
    for (int i = 0; i < chunk; ++i) codes_[first + i] = EncodeScore(sums[i]);
  }
  top_.Select(codes_, range, count, choices);
}

}  // namespace forecache
