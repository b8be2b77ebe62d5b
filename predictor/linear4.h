// The policy `linear4`: a weighted sum of the last four rows.
#ifndef FORECACHE_PREDICTOR_LINEAR4_H_
#define FORECACHE_PREDICTOR_LINEAR4_H_

#include <array>
#include <string>
#include <vector>

#include "predictor/predictor.h"
#include "predictor/row_ring.h"
#include "predictor/selection.h"

namespace forecache {

// The weights are fitted by least squares to the next row, on the same traces
// as the network's (predictor/train/): what a learned policy must beat.  A row
// that did not see a block repeats the row before there.
//
// Threads: one thread at a time.
class Linear4Predictor : public Predictor {
 public:
  static constexpr int kRows = 4;
  // Of the newest row first; not negative, and at most 1 in sum.
  static constexpr std::array<float, kRows> kWeights = {0.43f, 0.20f, 0.12f,
                                                        0.18f};

  explicit Linear4Predictor(const Shape& shape)
      : rows_(shape, kRows, RowRing::Unseen::kPrevious) {}

  std::string Name() const override { return "linear4"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override;
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override { return true; }
  size_t HistoryBytes() const override { return rows_.Bytes(); }

 private:
  RowRing rows_;
  TopBlocks top_;
  std::vector<uint16_t> codes_;  // scratch of Predict
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_LINEAR4_H_
