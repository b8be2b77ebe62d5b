// The policy `oracle`: knows the token that is to come.  For tests and
// evaluations only; no daemon can have it, and MakePredictor does not.
#ifndef FORECACHE_PREDICTOR_ORACLE_H_
#define FORECACHE_PREDICTOR_ORACLE_H_

#include <string>
#include <vector>

#include "predictor/history.h"
#include "predictor/predictor.h"
#include "predictor/selection.h"

namespace forecache {

// Scores by the present token's own exact row, which the test hands over with
// Reveal() before it asks.  What it observed does not matter to it.
//
// Threads: one thread at a time.
class OraclePredictor : public Predictor {
 public:
  explicit OraclePredictor(const Shape& shape) : present_(shape) {}

  // `row` is what the next Predict(layer, kv_head) will be judged by.
  void Reveal(int layer, int kv_head, const AttentionRow& row);

  std::string Name() const override { return "oracle"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override {}
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override { return false; }
  size_t HistoryBytes() const override { return present_.Bytes(); }

 private:
  RowHistory present_;
  TopBlocks top_;
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_ORACLE_H_
