// The network of conv_net.h over a window of rows that moves by one row a
// step, exactly, for a small part of the whole network's work.
//
// A block's score is the mean over the window's rows of y[row], what the
// second layer and the last weights make of it.  Where a row and the two on
// each side are inside the window, y does not depend on where the window is:
// the sum over those rows is kept, and a step adds one y and takes one away.
// Only the two rows at each border see the padding and are computed anew: 6
// rows of `window`.
//
// The sums are f64 and their terms f32: a y that is taken away has the very
// bits that were added (the same code on the same rows), so nothing but the
// rounding of 53 bits can build up, 2^-53 of the sum a step: a million steps
// stay below what f32 resolves.
#ifndef FORECACHE_PREDICTOR_CONV_WINDOW_H_
#define FORECACHE_PREDICTOR_CONV_WINDOW_H_

#include <cstdint>
#include <span>
#include <vector>

#include "predictor/conv_net.h"

namespace forecache {

// Rows of codes, oldest first.
using CodeRows = std::span<const uint16_t* const>;

// Threads: one thread at a time.
class ConvWindow {
 public:
  explicit ConvWindow(const ConvNet& net);

  // The window's first rows are all alike: `row` [blocks].
  void Start(const uint16_t* row, int blocks, double* sums, float* scores);

  // The window moved by one row: rows[0] left it, rows[window] is its newest.
  // The context grew from `old_blocks` to `blocks`; sums [blocks] are those of
  // the step before.  Fills scores [blocks].
  void Advance(CodeRows rows, int old_blocks, int blocks, double* sums,
               float* scores);

  // The whole network, by the same arithmetic, over `window` rows: what
  // Advance is compared with.
  void Evaluate(CodeRows rows, int blocks, double* sums, float* scores);

  // Multiplications and additions of a block, for one step and for the whole
  // network.
  double AdvanceFlops() const;
  double EvaluateFlops() const;

 private:
  struct Tile {
    int first = 0;  // column of the tile's first block
    int count = 0;  // blocks of it
    int blocks = 0;  // of the context
  };
  // First-layer rows of a tile, at one end of the window: three that see no
  // padding, and the one at the border.
  struct Ends {
    std::vector<float> inner[3], border;
  };

  void Load(const uint16_t* row, const Tile& tile, float* x) const;
  // A row of the first layer from three rows; null is padding.
  void Hidden(const float* before, const float* here, const float* after,
              const Tile& tile, float* hidden) const;
  // y of a row from three rows of the first layer; null is padding.
  void Output(const float* before, const float* here, const float* after,
              float* y) const;
  // The sum of y over the rows that see no padding.
  void SumInterior(CodeRows rows, const Tile& tile, double* sums);
  // Adds y of the rows at both borders; `moves`: brings `sums` one row on.
  void Finish(CodeRows rows, const Tile& tile, bool moves, double* sums,
              float* scores);
  void OldEnd(CodeRows rows, const Tile& tile, bool moves, double* sums,
              float* edge);
  void NewEnd(CodeRows rows, const Tile& tile, bool moves, double* sums,
              float* edge);

  const ConvNet net_;
  // conv2 as [channels2 / 4][time][channels1][block][4].
  std::vector<float> packed2_;
  std::vector<float> x_[5];  // rows of a tile, as floats
  Ends ends_;
  std::vector<float> y_;
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_CONV_WINDOW_H_
