#include "predictor/conv_window.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/target_clones.h"
#include "predictor/history.h"

namespace forecache {
namespace {

constexpr int kLanes = 8;
typedef float Vector __attribute__((vector_size(kLanes * sizeof(float))));

constexpr int kTile = 64;  // blocks computed at a time
// A tile's first-layer row starts one block before it and ends one after; its
// input row two.  Both are read up to whole vectors.
constexpr int kHidden = kTile + kLanes;
constexpr int kInput = kHidden + kLanes;
constexpr int kTaps = 3;
constexpr int kTogether = 4;  // channels of the second layer

// Always inline: else they would be compiled for the least machine.
#define FC_INLINE inline __attribute__((always_inline))

FC_INLINE Vector LoadVector(const float* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof(vector));
  return vector;
}

FC_INLINE void StoreVector(Vector vector, float* to) {
  std::memcpy(to, &vector, sizeof(vector));
}

FC_INLINE Vector Relu(Vector vector) {
  return vector > 0 ? vector : Vector{};
}

// One channel of the first layer: adds `kernel` [3] over a row.
FC_CLONES void FirstLayerRow(const float* const* rows, const float* kernels,
                             float bias, float* out) {
  for (int i = 0; i < kHidden; i += kLanes) {
    Vector sum = Vector{} + bias;
    for (int r = 0; r < kTaps; ++r) {
      if (rows[r] == nullptr) continue;
      for (int c = 0; c < kTaps; ++c) {
        sum += kernels[r * kTaps + c] * LoadVector(rows[r] + i + c);
      }
    }
    StoreVector(Relu(sum), out + i);
  }
}

// Four channels of the second layer, weighted by the third, added to y.
FC_CLONES void SecondLayerRow(const float* const* rows, int channels1,
                              const float* packed, const float* bias,
                              const float* weights, float* y) {
  for (int i = 0; i < kTile; i += 2 * kLanes) {
    Vector sums[kTogether][2];
    for (int j = 0; j < kTogether; ++j) {
      sums[j][0] = sums[j][1] = Vector{} + bias[j];
    }
    const float* kernel = packed;
    for (int r = 0; r < kTaps; ++r) {
      if (rows[r] == nullptr) {
        kernel += channels1 * kTaps * kTogether;
        continue;
      }
      const float* hidden = rows[r] + i;
      for (int channel = 0; channel < channels1; ++channel) {
        for (int c = 0; c < kTaps; ++c, kernel += kTogether) {
          const Vector low = LoadVector(hidden + c);
          const Vector high = LoadVector(hidden + c + kLanes);
          for (int j = 0; j < kTogether; ++j) {
            sums[j][0] += kernel[j] * low;
            sums[j][1] += kernel[j] * high;
          }
        }
        hidden += kHidden;
      }
    }
    for (int half = 0; half < 2; ++half) {
      float* to = y + i + half * kLanes;
      Vector sum = LoadVector(to);
      for (int j = 0; j < kTogether; ++j) {
        sum += weights[j] * Relu(sums[j][half]);
      }
      StoreVector(sum, to);
    }
  }
}

}  // namespace

ConvWindow::ConvWindow(const ConvNet& net)
    : net_(net), packed2_(net.conv2.size()), y_(kTile) {
  FC_CHECK(net.channels2 % kTogether == 0) << net.channels2;
  const int one = net.channels1;
  size_t at = 0;
  for (int group = 0; group < net.channels2; group += kTogether) {
    for (int r = 0; r < kTaps; ++r) {
      for (int channel = 0; channel < one; ++channel) {
        for (int c = 0; c < kTaps; ++c) {
          for (int j = 0; j < kTogether; ++j) {
            packed2_[at++] =
                net.conv2[(((group + j) * one + channel) * kTaps + r) * kTaps +
                          c];
          }
        }
      }
    }
  }
  for (auto& x : x_) x.assign(kInput + kTaps, 0.0f);
  for (auto& hidden : ends_.inner) hidden.assign(one * kHidden + kLanes, 0.0f);
  ends_.border = ends_.inner[0];
}

void ConvWindow::Load(const uint16_t* row, const Tile& tile, float* x) const {
  const int start = tile.first - 2;  // of x[0]
  const int first = std::max(start, 0);
  const int end = std::min(start + kInput, tile.blocks);
  std::fill_n(x, kInput, 0.0f);
  if (net_.scale == ConvScale::kLinear) {
    for (int b = first; b < end; ++b) x[b - start] = DecodeScore(row[b]);
    return;
  }
  const float share = 1.0f / static_cast<float>(EncodeScore(1.0f));
  for (int b = first; b < end; ++b) {
    x[b - start] = static_cast<float>(row[b]) * share;
  }
}

void ConvWindow::Hidden(const float* before, const float* here,
                        const float* after, const Tile& tile,
                        float* hidden) const {
  const float* rows[kTaps] = {before, here, after};
  // Columns outside the context are the second layer's padding.
  const int start = tile.first - 1;  // of hidden[0]
  const int end = std::clamp(tile.blocks - start, 0, kHidden);
  for (int channel = 0; channel < net_.channels1; ++channel) {
    float* row = hidden + channel * kHidden;
    FirstLayerRow(rows, &net_.conv1[channel * kTaps * kTaps],
                  net_.bias1[channel], row);
    if (start < 0) row[0] = 0;
    std::fill(row + end, row + kHidden, 0.0f);
  }
}

void ConvWindow::Output(const float* before, const float* here,
                        const float* after, float* y) const {
  const float* rows[kTaps] = {before, here, after};
  std::fill_n(y, kTile, 0.0f);
  const int stride = kTaps * kTaps * net_.channels1;
  for (int group = 0; group < net_.channels2; group += kTogether) {
    SecondLayerRow(rows, net_.channels1, &packed2_[group * stride],
                   &net_.bias2[group], &net_.conv3[group], y);
  }
}

void ConvWindow::OldEnd(CodeRows rows, const Tile& tile, bool moves,
                        double* sums, float* edge) {
  // rows[0] is outside; x_[i] is row i - 1 of the window.
  for (int i = moves ? 0 : 1; i < 5; ++i) Load(rows[i], tile, x_[i].data());
  float* const inner1 = ends_.inner[1].data();
  float* const inner2 = ends_.inner[2].data();
  float* const border = ends_.border.data();
  Hidden(x_[1].data(), x_[2].data(), x_[3].data(), tile, inner1);
  Hidden(x_[2].data(), x_[3].data(), x_[4].data(), tile, inner2);
  Hidden(nullptr, x_[1].data(), x_[2].data(), tile, border);
  if (moves) {
    float* const inner0 = ends_.inner[0].data();
    Hidden(x_[0].data(), x_[1].data(), x_[2].data(), tile, inner0);
    Output(inner0, inner1, inner2, y_.data());
    for (int i = 0; i < tile.count; ++i) sums[i] -= y_[i];
  }
  Output(nullptr, border, inner1, y_.data());
  for (int i = 0; i < tile.count; ++i) edge[i] = y_[i];
  Output(border, inner1, inner2, y_.data());
  for (int i = 0; i < tile.count; ++i) edge[i] += y_[i];
}

void ConvWindow::NewEnd(CodeRows rows, const Tile& tile, bool moves,
                        double* sums, float* edge) {
  // x_[i] is row i - 5 from the window's end.
  const int start = net_.window + 1 - 5;
  for (int i = 0; i < 5; ++i) Load(rows[start + i], tile, x_[i].data());
  float* const inner1 = ends_.inner[1].data();
  float* const inner2 = ends_.inner[2].data();
  float* const border = ends_.border.data();
  Hidden(x_[1].data(), x_[2].data(), x_[3].data(), tile, inner1);
  Hidden(x_[2].data(), x_[3].data(), x_[4].data(), tile, inner2);
  Hidden(x_[3].data(), x_[4].data(), nullptr, tile, border);
  if (moves) {
    float* const inner0 = ends_.inner[0].data();
    Hidden(x_[0].data(), x_[1].data(), x_[2].data(), tile, inner0);
    Output(inner0, inner1, inner2, y_.data());
    for (int i = 0; i < tile.count; ++i) sums[i] += y_[i];
  }
  Output(inner1, inner2, border, y_.data());
  for (int i = 0; i < tile.count; ++i) edge[i] += y_[i];
  Output(inner2, border, nullptr, y_.data());
  for (int i = 0; i < tile.count; ++i) edge[i] += y_[i];
}

void ConvWindow::Finish(CodeRows rows, const Tile& tile, bool moves,
                        double* sums, float* scores) {
  float edge[kTile];
  OldEnd(rows, tile, moves, sums, edge);
  NewEnd(rows, tile, moves, sums, edge);
  for (int i = 0; i < tile.count; ++i) {
    scores[i] = static_cast<float>((sums[i] + edge[i]) / net_.window) +
                net_.bias3;
  }
}

void ConvWindow::SumInterior(CodeRows rows, const Tile& tile, double* sums) {
  std::fill_n(sums, tile.count, 0.0);
  // Rows of the first layer and of the input turn through three buffers.
  const auto x = [this](int row) { return x_[row % kTaps].data(); };
  const auto hidden = [this](int row) {
    return ends_.inner[row % kTaps].data();
  };
  Load(rows[0], tile, x(0));
  Load(rows[1], tile, x(1));
  for (int row = 1; row + 1 < net_.window; ++row) {
    Load(rows[row + 1], tile, x(row + 1));
    Hidden(x(row - 1), x(row), x(row + 1), tile, hidden(row));
    if (row < 3) continue;
    Output(hidden(row - 2), hidden(row - 1), hidden(row), y_.data());
    for (int i = 0; i < tile.count; ++i) sums[i] += y_[i];
  }
}

void ConvWindow::Start(const uint16_t* row, int blocks, double* sums,
                       float* scores) {
  const std::vector<const uint16_t*> rows(net_.window + 1, row);
  for (int first = 0; first < blocks; first += kTile) {
    const Tile tile = {first, std::min(kTile, blocks - first), blocks};
    Load(row, tile, x_[0].data());
    const float* x = x_[0].data();
    float* const hidden = ends_.inner[0].data();
    Hidden(x, x, x, tile, hidden);
    Output(hidden, hidden, hidden, y_.data());
    for (int i = 0; i < tile.count; ++i) {
      sums[first + i] = double{y_[i]} * (net_.window - 4);
    }
    Finish(rows, tile, false, sums + first, scores + first);
  }
}

void ConvWindow::Advance(CodeRows rows, int old_blocks, int blocks,
                         double* sums, float* scores) {
  FC_CHECK(rows.size() == net_.window + 1) << rows.size() << " rows";
  // A new block changes what the two blocks before it see, in every row.
  const int steady =
      old_blocks == blocks ? blocks : std::max(old_blocks - 2, 0);
  for (int first = 0; first < blocks;) {
    const int end = first < steady ? steady : blocks;
    const Tile tile = {first, std::min(kTile, end - first), blocks};
    if (first >= steady) SumInterior(rows.subspan(1), tile, sums + first);
    Finish(rows, tile, first < steady, sums + first, scores + first);
    first += tile.count;
  }
}

void ConvWindow::Evaluate(CodeRows rows, int blocks, double* sums,
                          float* scores) {
  FC_CHECK(rows.size() == net_.window) << rows.size() << " rows";
  std::vector<const uint16_t*> padded(1, rows[0]);
  padded.insert(padded.end(), rows.begin(), rows.end());
  for (int first = 0; first < blocks; first += kTile) {
    const Tile tile = {first, std::min(kTile, blocks - first), blocks};
    SumInterior(rows, tile, sums + first);
    Finish(padded, tile, false, sums + first, scores + first);
  }
}

double ConvWindow::AdvanceFlops() const {
  const double one = 2.0 * kTaps * net_.channels1;
  const double two = one * net_.channels2;
  // Of 8 first-layer rows two see one padding row; of 6 second-layer rows two.
  return one * (8 * 3 - 2) + two * (6 * 3 - 2) + 6.0 * 2 * net_.channels2;
}

double ConvWindow::EvaluateFlops() const {
  const double one = 2.0 * kTaps * net_.channels1;
  const double two = one * net_.channels2;
  const double rows = net_.window;
  return (one + two) * (rows * 3 - 2) + rows * 2 * net_.channels2;
}

}  // namespace forecache
