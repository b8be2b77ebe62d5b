#include "predictor/conv.h"

#include <algorithm>
#include <utility>

#include "predictor/history.h"

namespace forecache {

ConvPredictor::ConvPredictor(const Shape& shape, const ConvNet& net,
                             std::string name)
    : name_(std::move(name)),
      shape_(shape),
      scale_(net.scale),
      window_(net.window),
      rows_(shape, net.window + 1, net.unseen),
      conv_(net),
      heads_(size_t{1} * shape.layers * shape.kv_heads) {}

void ConvPredictor::Grow(int blocks, Head* head) {
  if (blocks > head->sums.capacity()) {
    bytes_ -= head->Bytes();
    head->sums.reserve(GrownBlocks(blocks));
    head->scores.reserve(GrownBlocks(blocks));
    bytes_ += head->Bytes();
  }
  head->sums.resize(blocks, 0.0);
  head->scores.resize(blocks, 0);
}

void ConvPredictor::Observe(int layer, int kv_head, const AttentionRow& row) {
  Head& head = heads_[HeadIndex(shape_, layer, kv_head)];
  const int old_blocks = static_cast<int>(head.sums.size());
  const bool is_first = rows_.Push(layer, kv_head, row);
  Grow(row.blocks, &head);
  scores_.resize(row.blocks);
  if (is_first) {
    conv_.Start(rows_.Row(layer, kv_head, 0).data(), row.blocks,
                head.sums.data(), scores_.data());
  } else {
    pointers_.clear();
    for (int age = window_; age >= 0; --age) {
      pointers_.push_back(rows_.Row(layer, kv_head, age).data());
    }
    conv_.Advance(pointers_, old_blocks, row.blocks, head.sums.data(),
                  scores_.data());
  }
  const float unit = EncodeScore(1.0f);
  for (int b = 0; b < row.blocks; ++b) {
    head.scores[b] =
        scale_ == ConvScale::kLinear
            ? EncodeScore(scores_[b])
            : static_cast<uint16_t>(
                  std::clamp(scores_[b], 0.0f, 1.0f) * unit + 0.5f);
  }
}

void ConvPredictor::Predict(int layer, int kv_head, const ChoiceRange& range,
                            int count, std::vector<BlockChoice>* choices) {
  top_.Select(heads_[HeadIndex(shape_, layer, kv_head)].scores, range, count,
              choices);
}

}  // namespace forecache
