#include "kernels/tail_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/half.h"
#include "common/rng.h"

namespace forecache {
namespace {

struct Shape {
  int kv_heads, group, head_dim, cells;
};

class TailAttentionTest : public ::testing::TestWithParam<Shape> {};

std::vector<float> Random(size_t size, Rng* rng) {
  std::vector<float> values(size);
  for (float& value : values) value = rng->Normal();
  return values;
}

std::vector<uint16_t> ToBF16(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (float value : values) bits.push_back(FloatToBF16(value));
  return bits;
}

// Attention in f64 over keys that each stand `weight` times.
void Reference(const float* q, const uint16_t* keys, const uint16_t* values,
               const uint8_t* weights, int cells, int d, float scale,
               const float* seen_out, float seen_lse, float* out, float* lse) {
  double sum = std::exp(double(seen_lse));
  std::vector<double> total(d);
  for (int c = 0; c < d; ++c) total[c] = sum * seen_out[c];
  for (int cell = 0; cell < cells; ++cell) {
    double logit = 0;
    for (int c = 0; c < d; ++c) {
      logit += double(q[c]) * BF16ToFloat(keys[cell * d + c]);
    }
    const double p = weights[cell] * std::exp(logit * scale);
    sum += p;
    for (int c = 0; c < d; ++c) {
      total[c] += p * BF16ToFloat(values[cell * d + c]);
    }
  }
  for (int c = 0; c < d; ++c) out[c] = float(sum > 0 ? total[c] / sum : 0);
  *lse = float(std::log(sum));
}

TEST_P(TailAttentionTest, StandsForTheTokensLeftOut) {
  const Shape s = GetParam();
  Rng rng(11);
  const size_t plane = size_t(s.cells) * s.head_dim;
  const auto keys = ToBF16(Random(s.kv_heads * plane, &rng));
  const auto values = ToBF16(Random(s.kv_heads * plane, &rng));
  const int rows = s.kv_heads * s.group;
  const auto q = Random(size_t(rows) * s.head_dim, &rng);
  auto out = Random(size_t(rows) * s.head_dim, &rng);
  auto lse = Random(rows, &rng);
  lse[0] = -std::numeric_limits<float>::infinity();  // nothing was attended
  std::fill_n(out.begin(), s.head_dim, 0.0f);
  std::vector<uint8_t> left_out(s.kv_heads * s.cells);
  for (uint8_t& n : left_out) n = 16 * rng.Below(5);
  const float scale = 1 / std::sqrt(float(s.head_dim));
  std::vector<float> want(out.size()), want_lse(rows);
  for (int row = 0; row < rows; ++row) {
    const size_t head = row / s.group, at = size_t(row) * s.head_dim;
    Reference(q.data() + at, keys.data() + head * plane,
              values.data() + head * plane, left_out.data() + head * s.cells,
              s.cells, s.head_dim, scale, out.data() + at, lse[row],
              want.data() + at, &want_lse[row]);
  }
  AddTail({.kv_heads = s.kv_heads,
           .group = s.group,
           .head_dim = s.head_dim,
           .cells = s.cells,
           .keys = keys.data(),
           .values = values.data(),
           .left_out = left_out.data(),
           .q = q.data(),
           .scale = scale,
           .out = out.data(),
           .lse = lse.data()});
  for (size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], want[i], 1e-4);
  for (int row = 0; row < rows; ++row) {
    if (std::isinf(want_lse[row])) {
      EXPECT_EQ(lse[row], want_lse[row]);
    } else {
      EXPECT_NEAR(lse[row], want_lse[row], 1e-4);
    }
  }
}

TEST_P(TailAttentionTest, ChangesNothingWhenAllIsAttended) {
  const Shape s = GetParam();
  Rng rng(12);
  const std::vector<uint16_t> zeros(s.kv_heads * s.cells * s.head_dim);
  const std::vector<uint8_t> left_out(s.kv_heads * s.cells, 0);
  const auto q = Random(size_t(s.kv_heads) * s.group * s.head_dim, &rng);
  auto out = q;
  auto lse = Random(s.kv_heads * s.group, &rng);
  const auto lse_before = lse;
  AddTail({.kv_heads = s.kv_heads,
           .group = s.group,
           .head_dim = s.head_dim,
           .cells = s.cells,
           .keys = zeros.data(),
           .values = zeros.data(),
           .left_out = left_out.data(),
           .q = q.data(),
           .scale = 1,
           .out = out.data(),
           .lse = lse.data()});
  EXPECT_EQ(out, q);
  EXPECT_EQ(lse, lse_before);
}

INSTANTIATE_TEST_SUITE_P(Shapes, TailAttentionTest,
                         ::testing::Values(Shape{3, 3, 64, 110},
                                           Shape{1, 1, 16, 1},
                                           Shape{2, 4, 128, 7},
                                           Shape{1, 2, 80, 3},
                                           Shape{1, 1, 64, 0}));

}  // namespace
}  // namespace forecache
