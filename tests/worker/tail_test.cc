#include "worker/tail.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "common/half.h"
#include "common/rng.h"

namespace forecache {
namespace {

constexpr int kRows = 3;
constexpr int kDim = 16;
constexpr int kTokens = 40;
constexpr float kScale = 0.25f;

using Rows = std::vector<float>;

Rows Random(size_t size, uint64_t seed, float spread = 1) {
  Rng rng(seed);
  Rows rows(size);
  for (float& x : rows) x = rng.Normal() * spread;
  return rows;
}

// Attention of one query over tokens [first, end) of keys and values [tokens]
// [kDim].
struct Attention {
  Attention(const float* q, const Rows& keys, const Rows& values, int first,
            int end)
      : key(kDim), value(kDim) {
    double sum = 0;
    for (int t = first; t < end; ++t) {
      double logit = 0;
      for (int c = 0; c < kDim; ++c) logit += q[c] * keys[t * kDim + c];
      const double weight = std::exp(logit * kScale);
      sum += weight;
      for (int c = 0; c < kDim; ++c) {
        key[c] += weight * keys[t * kDim + c];
        value[c] += weight * values[t * kDim + c];
      }
    }
    for (int c = 0; c < kDim; ++c) {
      key[c] /= sum;
      value[c] /= sum;
    }
    lse = std::log(sum);
  }

  std::vector<double> key, value;
  double lse = 0;
};

class TailTest : public ::testing::Test {
 protected:
  // The tail of tokens [kTokens / 2, kTokens) for `estimate`.
  Tail MakeTail(const Rows& estimate) {
    lse_.clear();
    key_.clear();
    value_.clear();
    for (int row = 0; row < kRows; ++row) {
      const Attention rest(estimate.data() + row * kDim, keys_, values_,
                           kTokens / 2, kTokens);
      lse_.push_back(static_cast<float>(rest.lse));
      for (int c = 0; c < kDim; ++c) {
        key_.push_back(FloatToF16(static_cast<float>(rest.key[c])));
        value_.push_back(FloatToF16(static_cast<float>(rest.value[c])));
      }
    }
    return Tail({lse_, key_, value_}, estimate);
  }

  // Attention over the first half for q_, into out_ and out_lse_.
  void AttendFirstHalf() {
    for (int row = 0; row < kRows; ++row) {
      const Attention half(q_.data() + row * kDim, keys_, values_, 0,
                           kTokens / 2);
      out_lse_[row] = static_cast<float>(half.lse);
      for (int c = 0; c < kDim; ++c) {
        out_[row * kDim + c] = static_cast<float>(half.value[c]);
      }
    }
  }

  // The largest error of what is in out_ and out_lse_.
  std::pair<double, double> Error() {
    double of_out = 0, of_lse = 0;
    for (int row = 0; row < kRows; ++row) {
      const Attention all(q_.data() + row * kDim, keys_, values_, 0, kTokens);
      of_lse = std::max(of_lse, std::abs(out_lse_[row] - all.lse));
      for (int c = 0; c < kDim; ++c) {
        of_out = std::max(of_out,
                          std::abs(out_[row * kDim + c] - all.value[c]));
      }
    }
    return {of_out, of_lse};
  }

  const Rows keys_ = Random(kTokens * kDim, 1);
  const Rows values_ = Random(kTokens * kDim, 2);
  const Rows q_ = Random(kRows * kDim, 3);
  Rows out_ = Rows(kRows * kDim), out_lse_ = Rows(kRows);

 private:
  Rows lse_;
  std::vector<uint16_t> key_, value_;
};

TEST_F(TailTest, WithTheQueryItselfAttentionIsWhole) {
  const Tail tail = MakeTail(q_);
  AttendFirstHalf();
  tail.Add(q_, kScale, out_, out_lse_);
  const auto [of_out, of_lse] = Error();
  EXPECT_LT(of_out, 1e-3);
  EXPECT_LT(of_lse, 1e-4);
}

// The log-sum-exp's error is of second order in the estimate's.
TEST_F(TailTest, AnEstimateIsRightToFirstOrder) {
  const Rows off = Random(kRows * kDim, 4);
  std::vector<double> errors;
  for (const float size : {0.4f, 0.2f, 0.1f}) {
    Rows estimate = q_;
    for (size_t i = 0; i < off.size(); ++i) estimate[i] += size * off[i];
    const Tail tail = MakeTail(estimate);
    AttendFirstHalf();
    tail.Add(q_, kScale, out_, out_lse_);
    errors.push_back(Error().second);
  }
  EXPECT_LT(errors[0], 0.05);
  EXPECT_LT(errors[1], errors[0] * 0.4);
  EXPECT_LT(errors[2], errors[1] * 0.4);
}

TEST_F(TailTest, NothingLeftOutChangesNothing) {
  const Rows lse(kRows, -std::numeric_limits<float>::infinity());
  const std::vector<uint16_t> zeros(kRows * kDim);
  const Tail tail({lse, zeros, zeros}, q_);
  AttendFirstHalf();
  const Rows out = out_, out_lse = out_lse_;
  tail.Add(q_, kScale, out_, out_lse_);
  EXPECT_EQ(out_, out);
  EXPECT_EQ(out_lse_, out_lse);
}

// Where nothing is resident the tail is all there is.
TEST_F(TailTest, StandsAlone) {
  const Tail tail = MakeTail(q_);
  out_lse_.assign(kRows, -std::numeric_limits<float>::infinity());
  tail.Add(q_, kScale, out_, out_lse_);
  const Attention rest(q_.data(), keys_, values_, kTokens / 2, kTokens);
  for (int c = 0; c < kDim; ++c) EXPECT_NEAR(out_[c], rest.value[c], 1e-3);
  EXPECT_NEAR(out_lse_[0], rest.lse, 1e-4);
}

}  // namespace
}  // namespace forecache
