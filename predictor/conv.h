// The policy `conv`: a small network over the last rows (arXiv 2502.04077).
#ifndef FORECACHE_PREDICTOR_CONV_H_
#define FORECACHE_PREDICTOR_CONV_H_

#include <string>
#include <vector>

#include "predictor/conv_net.h"
#include "predictor/conv_window.h"
#include "predictor/predictor.h"
#include "predictor/row_ring.h"
#include "predictor/selection.h"

namespace forecache {

// Scores a block by the network's guess at the next row, from the window's
// rows.  What a row says of a block that it has not seen is up to the
// network: as it was trained.
//
// It keeps window + 1 codes, one sum (f64) and one score (a code) a block.
//
// Threads: one thread at a time.
class ConvPredictor : public Predictor {
 public:
  ConvPredictor(const Shape& shape, const ConvNet& net,
                std::string name = "conv");

  std::string Name() const override { return name_; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override;
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override { return true; }
  size_t HistoryBytes() const override { return rows_.Bytes() + bytes_; }

 private:
  struct Head {
    std::vector<double> sums;      // of the window's inner rows
    std::vector<uint16_t> scores;  // codes, of the last row
    size_t Bytes() const {
      return sums.capacity() * sizeof(double) +
             scores.capacity() * sizeof(uint16_t);
    }
  };
  void Grow(int blocks, Head* head);

  const std::string name_;
  const Shape shape_;
  const ConvScale scale_;
  const int window_;
  RowRing rows_;  // one more than the window: the one that left it
  ConvWindow conv_;
  std::vector<Head> heads_;  // [layers][kv_heads]
  size_t bytes_ = 0;
  TopBlocks top_;
  std::vector<const uint16_t*> pointers_;  // scratch: of the rows
  std::vector<float> scores_;              // scratch
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_CONV_H_
