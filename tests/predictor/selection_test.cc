#include "predictor/selection.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "common/limits.h"
#include "tests/predictor/rows.h"

namespace forecache {
namespace {

using ::testing::ElementsAre;

// The definition, in as few words as possible.
std::vector<int32_t> BestBySorting(const std::vector<uint16_t>& codes,
                                   const ChoiceRange& range, int count) {
  std::vector<int32_t> blocks;
  for (int b = range.end; b-- > range.first;) blocks.push_back(b);
  const auto score = [&](int32_t b) {
    return b < static_cast<int>(codes.size()) ? codes[b] : 0;
  };
  std::stable_sort(blocks.begin(), blocks.end(), [&](int32_t a, int32_t b) {
    return score(a) > score(b);
  });
  blocks.resize(std::min<size_t>(blocks.size(), count));
  return blocks;
}

// How the scores lie: the scan treats each of these differently.
enum class Order { kRandom, kRising, kFalling, kFewValues, kMostlyZero };

std::vector<uint16_t> Codes(int blocks, Order order, Rng* rng) {
  std::vector<uint16_t> codes(blocks);
  for (int b = 0; b < blocks; ++b) {
    const uint16_t random = static_cast<uint16_t>(rng->Below(0x7801));
    switch (order) {
      case Order::kRandom: codes[b] = random; break;
      case Order::kRising: codes[b] = static_cast<uint16_t>(b); break;
      case Order::kFalling: codes[b] = static_cast<uint16_t>(blocks - b); break;
      case Order::kFewValues: codes[b] = random % 4; break;
      case Order::kMostlyZero: codes[b] = random % 40 == 0 ? random : 0; break;
    }
  }
  return codes;
}

TEST(TopBlocksTest, PicksWhatSortingPicks) {
  Rng rng(1);
  TopBlocks top;
  std::vector<BlockChoice> choices;
  for (int trial = 0; trial < 4000; ++trial) {
    const int blocks = static_cast<int>(rng.Below(trial % 10 == 0 ? 3000 : 99));
    const auto codes = Codes(blocks, static_cast<Order>(trial % 5), &rng);
    const int first = static_cast<int>(rng.Below(blocks + 2));
    const int end = static_cast<int>(rng.Below(blocks + 40));
    const int count = static_cast<int>(rng.Below(trial % 3 == 0 ? 3000 : 30));
    top.Select(codes, {first, end}, count, &choices);
    ASSERT_EQ(Blocks(choices), BestBySorting(codes, {first, end}, count))
        << "trial " << trial << ": " << blocks << " blocks, [" << first << ", "
        << end << "), " << count;
  }
}

TEST(TopBlocksTest, ReachesTheLongestContext) {
  std::vector<uint16_t> codes(kContextBlocksMax, 5);
  codes[0] = 7;
  codes[kContextBlocksMax - 1] = 6;
  TopBlocks top;
  std::vector<BlockChoice> choices;
  top.Select(codes, {0, kContextBlocksMax}, 3, &choices);
  EXPECT_THAT(Blocks(choices), ElementsAre(0, kContextBlocksMax - 1,
                                           kContextBlocksMax - 2));
}

TEST(MeanOverGroupTest, AveragesAPartOfTheRow) {
  OwnedRow row;
  row.blocks = 4;
  row.probabilities = {0.0f, 0.1f, 0.2f, 0.3f, 0.8f, 0.5f, 0.4f, 0.1f};
  float means[2];
  MeanOverGroup(row.View(), 2, 1, 2, means);
  EXPECT_FLOAT_EQ(means[0], 0.3f);
  EXPECT_FLOAT_EQ(means[1], 0.3f);
}

}  // namespace
}  // namespace forecache
