// The policy `quest`: bounds from each block's keys (arXiv 2406.10774).
#ifndef FORECACHE_PREDICTOR_QUEST_H_
#define FORECACHE_PREDICTOR_QUEST_H_

#include <string>
#include <vector>

#include "predictor/predictor.h"
#include "predictor/selection.h"

namespace forecache {

// Keeps, on the worker, the smallest and the largest of each channel of a
// block's keys.  With a query they bound every logit of the block; the softmax
// of the bounds is its score.  Needs no probe: its price is memory, 4 bytes a
// block and channel, 1/16 of the KV in 16-bit floats.
//
// Threads: one thread at a time.
class QuestPredictor : public Predictor {
 public:
  // REQUIRES: shape.head_dim > 0.
  explicit QuestPredictor(const Shape& shape);

  std::string Name() const override { return "quest"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override {}
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override { return false; }
  bool WantsQueries() const override { return true; }
  void ObserveQuery(int layer, int kv_head,
                    std::span<const float> query) override;
  bool WantsKeys() const override { return true; }
  void ObserveKeys(int layer, int kv_head, int block,
                   std::span<const float> keys) override;
  size_t HistoryBytes() const override { return bytes_; }

 private:
  struct Digests {
    // [block][channel]: the smallest and the largest, in bf16, rounded away
    // from the keys, so that the bound holds.
    std::vector<uint16_t> low, high;
    std::vector<uint16_t> codes;  // of the last query
    size_t Bytes() const {
      return (low.capacity() + high.capacity() + codes.capacity()) *
             sizeof(uint16_t);
    }
  };
  void Grow(int blocks, Digests* digests);
  // The bounds of one query head, scaled, and the sum of their exponentials.
  float Bounds(const Digests& digests, const float* query);

  const Shape shape_;
  std::vector<Digests> digests_;  // [layers][kv_heads]
  size_t bytes_ = 0;
  TopBlocks top_;
  std::vector<float> bounds_, scores_;  // scratch
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_QUEST_H_
