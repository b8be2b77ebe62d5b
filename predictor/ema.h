// The policy `ema`: attention moves slowly, so average it.
#ifndef FORECACHE_PREDICTOR_EMA_H_
#define FORECACHE_PREDICTOR_EMA_H_

#include <string>
#include <vector>

#include "predictor/history.h"
#include "predictor/predictor.h"
#include "predictor/selection.h"

namespace forecache {

// Scores a block by an exponential average over the rows that saw it; `alpha`
// is the newest row's weight.  1 is the policy `last`.  The history's 11 bits
// set the floor: a score closer to its row than 2^-12 / alpha of its size
// stays where it is, so below 0.01 the average stops following the rows.
//
// Threads: one thread at a time.
class EmaPredictor : public Predictor {
 public:
  // REQUIRES: alpha in (0, 1].
  EmaPredictor(const Shape& shape, float alpha);

  std::string Name() const override { return "ema"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override;
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override { return true; }
  size_t HistoryBytes() const override { return history_.Bytes(); }

 private:
  const float alpha_;
  RowHistory history_;
  TopBlocks top_;
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_EMA_H_
