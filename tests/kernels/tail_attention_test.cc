#include "kernels/tail_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

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

// The cells of all heads: codes, and what a code of 1 stands for.
struct Cells {
  std::vector<int8_t> codes;  // [cells][kv_heads][head_dim]
  std::vector<float> scales;  // [cells][kv_heads]
};

Cells RandomCells(const Shape& s, Rng* rng) {
  Cells cells;
  for (int i = 0; i < s.cells * s.kv_heads; ++i) {
    cells.scales.push_back(0.01f * float(1 + rng->Below(4)));
    for (int c = 0; c < s.head_dim; ++c) {
      cells.codes.push_back(static_cast<int8_t>(int(rng->Below(255)) - 127));
    }
  }
  return cells;
}

TailAttention Tail(const Shape& s, const Cells& keys, const Cells& values,
                   const std::vector<uint8_t>& left_out,
                   const std::vector<float>& q, float scale,
                   std::vector<float>* out, std::vector<float>* lse) {
  return {.kv_heads = s.kv_heads,
          .group = s.group,
          .head_dim = s.head_dim,
          .cells = s.cells,
          .keys = keys.codes.data(),
          .values = values.codes.data(),
          .key_scales = keys.scales.data(),
          .value_scales = values.scales.data(),
          .left_out = left_out.data(),
          .q = q.data(),
          .scale = scale,
          .out = out->data(),
          .lse = lse->data()};
}

// Attention in f64 of query head `row` over keys that each stand as often as
// their cell says, into its part of `out` and `lse`.
void Reference(const TailAttention& args, int row) {
  const int d = args.head_dim;
  float* const out = args.out + size_t(row) * d;
  double sum = std::exp(double(args.lse[row]));
  std::vector<double> total(d);
  for (int c = 0; c < d; ++c) total[c] = sum * out[c];
  for (int cell = 0; cell < args.cells; ++cell) {
    const size_t at = size_t(cell) * args.kv_heads + row / args.group;
    double logit = 0;
    for (int c = 0; c < d; ++c) {
      logit += double(args.q[size_t(row) * d + c]) * args.key_scales[at] *
               args.keys[at * d + c];
    }
    const double p = args.left_out[at] * std::exp(logit * args.scale);
    sum += p;
    for (int c = 0; c < d; ++c) {
      total[c] += p * args.value_scales[at] * args.values[at * d + c];
    }
  }
  for (int c = 0; c < d; ++c) out[c] = float(sum > 0 ? total[c] / sum : 0);
  args.lse[row] = float(std::log(sum));
}

TEST_P(TailAttentionTest, StandsForTheTokensLeftOut) {
  const Shape s = GetParam();
  Rng rng(11);
  const Cells keys = RandomCells(s, &rng), values = RandomCells(s, &rng);
  const int rows = s.kv_heads * s.group;
  const auto q = Random(size_t(rows) * s.head_dim, &rng);
  auto out = Random(size_t(rows) * s.head_dim, &rng);
  auto lse = Random(rows, &rng);
  lse[0] = -std::numeric_limits<float>::infinity();  // nothing was attended
  std::fill_n(out.begin(), s.head_dim, 0.0f);
  std::vector<uint8_t> left_out(s.kv_heads * s.cells);
  for (uint8_t& n : left_out) n = static_cast<uint8_t>(16 * rng.Below(5));
  const float scale = 1 / std::sqrt(float(s.head_dim));
  auto want = out, want_lse = lse;
  const TailAttention reference =
      Tail(s, keys, values, left_out, q, scale, &want, &want_lse);
  for (int row = 0; row < rows; ++row) Reference(reference, row);
  AddTail(Tail(s, keys, values, left_out, q, scale, &out, &lse));
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
  const Cells cells = RandomCells(s, &rng);
  const std::vector<uint8_t> left_out(s.kv_heads * s.cells, 0);
  const auto q = Random(size_t(s.kv_heads) * s.group * s.head_dim, &rng);
  auto out = q;
  auto lse = Random(s.kv_heads * s.group, &rng);
  const auto lse_before = lse;
  AddTail(Tail(s, cells, cells, left_out, q, 1, &out, &lse));
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
