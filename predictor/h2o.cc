#include "predictor/h2o.h"

#include <algorithm>

#include "predictor/history.h"

namespace forecache {
namespace {

// Blocks converted at a time, so that the means stay in the first cache.
constexpr int kChunkBlocks = 256;

}  // namespace

H2oPredictor::H2oPredictor(const Shape& shape)
    : shape_(shape),
      sums_(size_t{1} * shape.layers * shape.kv_heads),
      clock_(shape) {}

void H2oPredictor::Add(const AttentionRow& row, int first, int count,
                       Sums* sums) const {
  float means[kChunkBlocks];
  MeanOverGroup(row, shape_.group, first, count, means);
  for (int i = 0; i < count; ++i) {
    // What is no probability adds nothing: a sum would never forget it.
    sums->of_block[first + i] += DecodeScore(EncodeScore(means[i]));
  }
}

void H2oPredictor::Observe(int layer, int kv_head, const AttentionRow& row) {
  Sums& sums = sums_[HeadIndex(shape_, layer, kv_head)];
  CheckRow(row, shape_.group, sums.of_block.size());
  const size_t had = sums.of_block.capacity();
  if (row.blocks > had) sums.of_block.reserve(GrownBlocks(row.blocks));
  bytes_ += (sums.of_block.capacity() - had) * sizeof(float);
  sums.of_block.resize(row.blocks, 0.0f);
  sums.rows += 1;
  clock_.Saw(layer, kv_head, row);
  for (const int32_t block : row.seen) Add(row, block, 1, &sums);
  for (int first = 0; row.seen.empty() && first < row.blocks;
       first += kChunkBlocks) {
    Add(row, first, std::min(kChunkBlocks, row.blocks - first), &sums);
  }
}

void H2oPredictor::Predict(int layer, int kv_head, const ChoiceRange& range,
                           int count, std::vector<BlockChoice>* choices) {
  const Sums& sums = sums_[HeadIndex(shape_, layer, kv_head)];
  codes_.resize(sums.of_block.size());
  // As a mean, so that it stays a probability.
  const float share = 1 / std::max(sums.rows, 1.0f);
  for (size_t b = 0; b < codes_.size(); ++b) {
    codes_[b] = EncodeScore(sums.of_block[b] * share);
  }
  top_.Select(codes_, range, count, choices);
}

bool H2oPredictor::WantsProbe(int layer) const {
  return clock_.OldestOfLayer(layer) == ProbeClock::kNever;
}

}  // namespace forecache
