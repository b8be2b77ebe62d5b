// The policy `tactic`: as many blocks as the mass needs (arXiv 2502.12216).
#ifndef FORECACHE_PREDICTOR_TACTIC_H_
#define FORECACHE_PREDICTOR_TACTIC_H_

#include <string>
#include <vector>

#include "predictor/history.h"
#include "predictor/predictor.h"
#include "predictor/selection.h"

namespace forecache {

// The mass of the blocks after the best ones, from those: a power law is
// fitted to the worse half of `choices` (ranks from 1, by confidence) and
// summed up to rank `blocks`.
float FittedTail(const std::vector<BlockChoice>& choices, int blocks);

// Ranks as `last`, and chooses no more of the best than hold `share` of all
// the mass in range: a peaked head gives its budget back.
//
// Threads: one thread at a time.
class TacticPredictor : public Predictor {
 public:
  // REQUIRES: share in (0, 1].
  TacticPredictor(const Shape& shape, float share);

  std::string Name() const override { return "tactic"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override;
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override { return true; }
  size_t HistoryBytes() const override { return history_.Bytes(); }

 private:
  const float share_;
  RowHistory history_;
  TopBlocks top_;
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_TACTIC_H_
