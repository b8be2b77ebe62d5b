// The policy `last`: what the last query needed, the next one needs.
#ifndef FORECACHE_PREDICTOR_LAST_H_
#define FORECACHE_PREDICTOR_LAST_H_

#include <string>
#include <vector>

#include "predictor/history.h"
#include "predictor/predictor.h"
#include "predictor/selection.h"

namespace forecache {

// Scores a block by the last row that saw it.
//
// Threads: one thread at a time.
class LastPredictor : public Predictor {
 public:
  explicit LastPredictor(const Shape& shape) : history_(shape) {}

  std::string Name() const override { return "last"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override;
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override { return true; }
  size_t HistoryBytes() const override { return history_.Bytes(); }

 private:
  RowHistory history_;
  TopBlocks top_;
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_LAST_H_
