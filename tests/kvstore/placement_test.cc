#include "kvstore/placement.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "common/limits.h"
#include "common/rng.h"

namespace forecache {
namespace {

std::vector<int32_t> RandomTokens(uint64_t seed, int count) {
  Rng rng(seed);
  std::vector<int32_t> tokens(count);
  for (int32_t& token : tokens) token = static_cast<int32_t>(rng.Below(50000));
  return tokens;
}

TEST(PlacementKeysTest, ASegmentHasItsKeyWithItsFirstBlock) {
  const std::vector<int32_t> tokens = RandomTokens(1, 600);
  const std::span<const int32_t> all(tokens);
  EXPECT_EQ(PlacementKeys(all.first(15)).size(), 0u);
  EXPECT_EQ(PlacementKeys(all.first(16)).size(), 1u);
  EXPECT_EQ(PlacementKeys(all.first(256 + 15)).size(), 1u);
  EXPECT_EQ(PlacementKeys(all.first(256 + 16)).size(), 2u);
  const std::vector<uint64_t> keys = PlacementKeys(all);
  ASSERT_EQ(keys.size(), 3u);
  EXPECT_EQ(PlacementKeys(all.first(256 + 16))[1], keys[1]);
}

TEST(PlacementKeysTest, AKeyIsOfAllTokensBefore) {
  std::vector<int32_t> tokens = RandomTokens(2, 3 * kSegmentTokens);
  const std::vector<uint64_t> before = PlacementKeys(tokens);
  ++tokens[100];
  const std::vector<uint64_t> after = PlacementKeys(tokens);
  EXPECT_EQ(before[0], after[0]);  // its first block is the same
  EXPECT_NE(before[1], after[1]);
  EXPECT_NE(before[2], after[2]);
}

// Workers of different builds must place alike.
TEST(PlacementTest, IsTheSameForEver) {
  const Placement placement({1, {"a:1", "b:2", "c:3"}});
  EXPECT_EQ(placement.epoch(), 1u);
  std::vector<int32_t> tokens(16, 7);
  EXPECT_EQ(PlacementKeys(tokens)[0], 1182391061249891075u);
  EXPECT_EQ(placement.Rank(1), (std::vector<int>{1, 2, 0}));
  EXPECT_EQ(placement.Rank(2), (std::vector<int>{0, 1, 2}));
}

TEST(PlacementTest, SpreadsEvenly) {
  const Placement placement({1, {"a:1", "b:1", "c:1", "d:1"}});
  std::vector<int> count(4);
  for (uint64_t key : PlacementKeys(RandomTokens(3, 4000 * kSegmentTokens))) {
    ++count[placement.Rank(key)[0]];
  }
  for (int segments : count) EXPECT_NEAR(segments, 1000, 120);
}

TEST(PlacementTest, OnlyTheSegmentsOfWhoLeftMove) {
  const Placement four({1, {"a:1", "b:1", "c:1", "d:1"}});
  const Placement three({2, {"a:1", "b:1", "d:1"}});
  const int names[] = {0, 1, 3};
  Rng rng(4);
  int moved = 0;
  for (int i = 0; i < 1000; ++i) {
    const uint64_t key = rng.Next();
    const std::vector<int> rank = four.Rank(key);
    const int now = names[three.Rank(key)[0]];
    if (rank[0] == 2) {
      ++moved;
      EXPECT_EQ(now, rank[1]);  // where the group finds the next best, too
    } else {
      EXPECT_EQ(now, rank[0]);
    }
  }
  EXPECT_NEAR(moved, 250, 60);
}

}  // namespace
}  // namespace forecache
