// The policy `recycled`: a full row every few tokens, used again in between.
#ifndef FORECACHE_PREDICTOR_RECYCLED_H_
#define FORECACHE_PREDICTOR_RECYCLED_H_

#include <string>
#include <vector>

#include "predictor/history.h"
#include "predictor/predictor.h"
#include "predictor/probe_clock.h"
#include "predictor/selection.h"

namespace forecache {

// Scores a block by the last row that saw all blocks, and wants such a row
// every `steps` tokens.  What only the attended blocks say is not heard: it
// would favour those that are there already.
//
// Threads: one thread at a time.
class RecycledPredictor : public Predictor {
 public:
  // REQUIRES: steps > 0.
  RecycledPredictor(const Shape& shape, int steps);

  std::string Name() const override { return "recycled"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override;
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override;
  bool WantsProbeOfHead(int layer, int kv_head) const override;
  size_t HistoryBytes() const override { return history_.Bytes(); }

 private:
  const int steps_;
  RowHistory history_;
  ProbeClock clock_;
  TopBlocks top_;
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_RECYCLED_H_
