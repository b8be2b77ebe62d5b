#include "predictor/history.h"

#include <gtest/gtest.h>

#include <cmath>

#include "common/half.h"
#include "common/limits.h"
#include "tests/predictor/rows.h"

namespace forecache {
namespace {

TEST(ScoreCodeTest, IsTheHalfOfTheScaledScore) {
  Rng rng(1);
  for (int i = 0; i < 100'000; ++i) {
    const float score = std::exp2(-29.0f * static_cast<float>(rng.Uniform()));
    ASSERT_EQ(EncodeScore(score), FloatToF16(score * 32768.0f)) << score;
    ASSERT_EQ(DecodeScore(EncodeScore(score)),
              F16ToFloat(EncodeScore(score)) / 32768.0f);
  }
}

TEST(ScoreCodeTest, KeepsEveryCode) {
  for (uint32_t code = 0x400; code <= 0x7800; ++code) {
    ASSERT_EQ(EncodeScore(DecodeScore(static_cast<uint16_t>(code))), code);
  }
}

TEST(ScoreCodeTest, HasNoNanNoInfinityNoSign) {
  EXPECT_EQ(EncodeScore(0.0f), 0);
  EXPECT_EQ(EncodeScore(-0.0f), 0);
  EXPECT_EQ(EncodeScore(-3.0f), 0);
  EXPECT_EQ(EncodeScore(std::nanf("")), 0);
  EXPECT_EQ(EncodeScore(1e-10f), 0);
  EXPECT_EQ(DecodeScore(0), 0.0f);
  EXPECT_EQ(DecodeScore(EncodeScore(1.0f)), 1.0f);
  EXPECT_EQ(DecodeScore(EncodeScore(INFINITY)), 1.0f);
}

TEST(RowHistoryTest, GrowsWithTheContextAndCountsItsBytes) {
  RowHistory history({.layers = 2, .kv_heads = 2, .group = 1});
  EXPECT_TRUE(history.Row(1, 1).empty());
  history.Replace(1, 1, RowOf(std::vector<float>(10, 0.5f)).View());
  EXPECT_EQ(history.Bytes(), 64 * 2u);
  history.Replace(1, 1, RowOf(std::vector<float>(64, 0.5f)).View());
  EXPECT_EQ(history.Bytes(), 64 * 2u);
  history.Replace(0, 1, RowOf(std::vector<float>(65, 0.5f)).View());
  EXPECT_EQ(history.Bytes(), 3 * 64 * 2u);
  EXPECT_EQ(history.Row(1, 1).size(), 64u);
  EXPECT_TRUE(history.Row(0, 0).empty());
}

TEST(RowHistoryTest, HoldsRowsLongerThanAChunk) {
  Rng rng(2);
  const OwnedRow row = RandomRow(1000, 2, &rng);
  RowHistory history({.layers = 1, .kv_heads = 1, .group = 2});
  history.Replace(0, 0, row.View());
  for (int b = 0; b < 1000; ++b) {
    const float mean =
        (row.probabilities[b] + row.probabilities[1000 + b]) * 0.5f;
    ASSERT_EQ(history.Row(0, 0)[b], EncodeScore(mean)) << b;
  }
}

using RowHistoryDeathTest = ::testing::Test;

TEST(RowHistoryDeathTest, RefusesACallersBug) {
  RowHistory history({.layers = 1, .kv_heads = 2, .group = 1});
  history.Replace(0, 1, RowOf({0.1f, 0.2f, 0.3f}).View());
  EXPECT_DEATH(history.Replace(0, 1, RowOf({0.1f}).View()), "shrank from 3");
  EXPECT_DEATH(history.Replace(1, 0, RowOf({0.1f}).View()), "layer=1");
  EXPECT_DEATH(history.Row(0, 2), "kv_head=2");
  OwnedRow row = RowOf({0.1f, 0.2f, 0.3f});
  row.seen = {1, 1};
  EXPECT_DEATH(history.Replace(0, 1, row.View()), "seen block 1 after 1");
  row.seen = {3};
  EXPECT_DEATH(history.Replace(0, 1, row.View()), "seen block 3");
  row.seen = {};
  row.probabilities.pop_back();
  EXPECT_DEATH(history.Replace(0, 1, row.View()), "2 probabilities for 3");
}

}  // namespace
}  // namespace forecache
