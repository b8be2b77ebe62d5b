#include "kvstore/probe_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "common/half.h"
#include "common/log_add_exp.h"
#include "common/rng.h"

namespace forecache {
namespace {

TEST(ProbeRowsTest, HalvesHaveTheBitsOfTheSpecification) {
  std::vector<float> values = {0, -0.0f, kNoScore, -kNoScore, -65504, -65520,
                               -65519, 1e-8f, -6e-8f, -6.1e-5f, -1};
  Rng rng(1);
  for (int i = 0; i < 200000; ++i) {
    const float value = std::bit_cast<float>(uint32_t(rng.Next()));
    if (!std::isnan(value)) values.push_back(value);
  }
  std::vector<uint16_t> got(values.size());
  std::vector<float> row = values;
  row.resize(RowStride(row.size()), kNoScore);
  WriteLogProbabilities(row.data(), 0, values.size(),
                        reinterpret_cast<std::byte*>(got.data()));
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(got[i], FloatToF16(values[i])) << values[i];
  }
}

TEST(ProbeRowsTest, SumsAddUp) {
  EXPECT_EQ(LogAddExp(kNoScore, 3), 3);
  EXPECT_EQ(LogAddExp(3, kNoScore), 3);
  EXPECT_EQ(LogAddExp(kNoScore, kNoScore), kNoScore);
  EXPECT_NEAR(LogAddExp(3, 3), 3 + std::log(2.0f), 1e-6);
}

TEST(ProbeRowsTest, MergeIsTheMeanOfTheProbabilities) {
  Rng rng(3);
  for (int blocks : {1, 15, 16, 70}) {
    const size_t stride = RowStride(blocks);
    std::vector<float> rows(3 * stride, kNoScore), merged(stride, 9);
    std::vector<float> lse = {2, 5, kNoScore};
    for (int g = 0; g < 2; ++g) {
      for (int b = 0; b < blocks; ++b) {
        rows[g * stride + b] = lse[g] - 25 * rng.Uniform();
      }
    }
    MergeGroup(rows.data(), stride, lse, merged.data());
    for (int b = 0; b < blocks; ++b) {
      double want = 0;
      for (int g = 0; g < 2; ++g) {
        const double x = double{rows[g * stride + b]} - lse[g];
        if (x > -16) want += std::exp(x) / 3;
      }
      EXPECT_NEAR(merged[b], want, 1e-5 * want + 1e-9) << b;
    }
    for (size_t b = blocks; b < stride; ++b) EXPECT_EQ(merged[b], 0);
  }
}

TEST(ProbeRowsTest, PicksAreTheBest) {
  Rng rng(4);
  for (int round = 0; round < 300; ++round) {
    const int blocks = 1 + rng.Below(100);
    const int first = rng.Below(blocks + 1);
    const int end = first + rng.Below(blocks - first + 1);
    const float threshold = round % 3 == 0 ? 0.5f : 0.0f;
    std::vector<float> merged(RowStride(blocks));
    for (int b = 0; b < blocks; ++b) {
      // Many ties, many zeros.
      merged[b] = rng.Below(3) == 0 ? 0.0f : rng.Below(20) / 20.0f;
    }
    std::vector<float> sorted(merged.begin() + first, merged.begin() + end);
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    std::vector<uint32_t> picks(rng.Below(8));
    const BestBlocks best =
        PickBest(merged.data(), first, end, threshold, picks);
    size_t want = 0;
    while (want < picks.size() && want < sorted.size() && sorted[want] > 0 &&
           sorted[want] >= threshold) {
      ++want;
    }
    ASSERT_EQ(best.count, want);
    double sum = 0;
    for (size_t i = 0; i < want; ++i) {
      EXPECT_GE(picks[i], first);
      EXPECT_LT(picks[i], end);
      EXPECT_EQ(merged[picks[i]], sorted[i]);
      sum += sorted[i];
    }
    std::sort(picks.begin(), picks.begin() + want);
    EXPECT_EQ(std::unique(picks.begin(), picks.begin() + want),
              picks.begin() + want);
    EXPECT_NEAR(best.picked, sum, 1e-5);
    EXPECT_EQ(best.best_left, want < sorted.size() ? sorted[want] : 0);
  }
}

TEST(ProbeRowsTest, ResidentBlocksCountForNothing) {
  std::vector<float> merged(RowStride(70), 0.0f);
  std::fill_n(merged.begin(), 70, 1.0f);
  const uint64_t resident[2] = {0b1001, ~uint64_t{0}};
  EXPECT_EQ(ClearResident(resident, merged.size(), merged.data()), 62);
  EXPECT_EQ(merged[0], 0);
  EXPECT_EQ(merged[1], 1);
  EXPECT_EQ(merged[3], 0);
  EXPECT_EQ(merged[64], 0);
}

}  // namespace
}  // namespace forecache
