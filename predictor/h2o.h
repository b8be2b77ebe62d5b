// The policy `h2o`: heavy hitters by accumulated attention (arXiv 2306.14048).
#ifndef FORECACHE_PREDICTOR_H2O_H_
#define FORECACHE_PREDICTOR_H2O_H_

#include <string>
#include <vector>

#include "predictor/predictor.h"
#include "predictor/probe_clock.h"
#include "predictor/selection.h"

namespace forecache {

// Scores a block by the sum of all attention that it got while it was
// attended.  It never asks the store again once it saw the prompt's last row:
// a block that was not attended keeps its sum and can only be overtaken.
//
// Threads: one thread at a time.
class H2oPredictor : public Predictor {
 public:
  explicit H2oPredictor(const Shape& shape);

  std::string Name() const override { return "h2o"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override;
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override;
  bool WantsAttended() const override { return true; }
  size_t HistoryBytes() const override { return bytes_; }

 private:
  struct Sums {
    std::vector<float> of_block;
    float rows = 0;  // how many were added
  };
  void Add(const AttentionRow& row, int first, int count, Sums* sums) const;

  const Shape shape_;
  std::vector<Sums> sums_;  // [layers][kv_heads]
  size_t bytes_ = 0;
  ProbeClock clock_;
  TopBlocks top_;
  std::vector<uint16_t> codes_;  // scratch of Predict
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_H2O_H_
