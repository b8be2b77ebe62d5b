// The network of conv_net.h in its plainest form: the specification that the
// fast ones are held to.  For tests and benchmarks.
#ifndef FORECACHE_PREDICTOR_CONV_PLAIN_H_
#define FORECACHE_PREDICTOR_CONV_PLAIN_H_

#include <algorithm>
#include <vector>

#include "predictor/conv_net.h"
#include "predictor/conv_window.h"
#include "predictor/history.h"

namespace forecache {

// A picture: [channel][row][block].
template <typename Float>
struct ConvPicture {
  int channels = 0, rows = 0, blocks = 0;
  std::vector<Float> at;

  ConvPicture(int channels, int rows, int blocks)
      : channels(channels),
        rows(rows),
        blocks(blocks),
        at(size_t{1} * channels * rows * blocks) {}
  Float& operator()(int channel, int row, int block) {
    return at[(size_t{1} * channel * rows + row) * blocks + block];
  }
};

template <typename Float>
ConvPicture<Float> PlainConvolution(ConvPicture<Float>& in, int channels,
                                    const std::vector<float>& kernels,
                                    const std::vector<float>& bias) {
  ConvPicture<Float> out(channels, in.rows, in.blocks);
  for (int to = 0; to < channels; ++to) {
    for (int row = 0; row < in.rows; ++row) {
      for (int block = 0; block < in.blocks; ++block) {
        Float sum = bias[to];
        for (int from = 0; from < in.channels; ++from) {
          for (int tap = 0; tap < 9; ++tap) {
            const int r = row + tap / 3 - 1, b = block + tap % 3 - 1;
            if (r < 0 || r >= in.rows || b < 0 || b >= in.blocks) continue;
            sum += kernels[(size_t{1} * to * in.channels + from) * 9 + tap] *
                   in(from, r, b);
          }
        }
        out(to, row, block) = std::max(sum, Float{0});
      }
    }
  }
  return out;
}

// Scores of the next row from `window` rows of codes.
template <typename Float>
std::vector<Float> PlainConvScores(const ConvNet& net, CodeRows rows,
                                   int blocks) {
  ConvPicture<Float> x(1, net.window, blocks);
  for (int row = 0; row < net.window; ++row) {
    for (int b = 0; b < blocks; ++b) {
      x(0, row, b) = net.scale == ConvScale::kLinear
                         ? DecodeScore(rows[row][b])
                         : static_cast<Float>(rows[row][b]) / 30720;
    }
  }
  auto hidden = PlainConvolution(x, net.channels1, net.conv1, net.bias1);
  auto last = PlainConvolution(hidden, net.channels2, net.conv2, net.bias2);
  std::vector<Float> scores(blocks, Float{net.bias3});
  for (int b = 0; b < blocks; ++b) {
    for (int channel = 0; channel < net.channels2; ++channel) {
      Float sum = 0;
      for (int row = 0; row < net.window; ++row) sum += last(channel, row, b);
      scores[b] += net.conv3[channel] * sum / net.window;
    }
  }
  return scores;
}

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_CONV_PLAIN_H_
