#include "worker/budget.h"

#include <gtest/gtest.h>

#include <numeric>

namespace forecache {
namespace {

constexpr KvGeometry kGeometry{.layers = 30,
                               .kv_heads = 3,
                               .head_dim = 64,
                               .group = 3};
constexpr int kHeads = 90;

int Sum(const std::vector<int>& blocks) {
  return std::accumulate(blocks.begin(), blocks.end(), 0);
}

TEST(BudgetTest, AlikeWithoutProfileAndLending) {
  Budget budget{.blocks = 30, .corrected = 8};
  SpreadBudget(kGeometry, 464, nullptr, 0, &budget);
  EXPECT_TRUE(budget.of_head.empty());
  EXPECT_EQ(budget.BlocksOf(7), 30);
}

TEST(BudgetTest, WhatIsLentIsSetApart) {
  Budget budget{.blocks = 30, .corrected = 8, .lends = true};
  SpreadBudget(kGeometry, 464, nullptr, 0, &budget);
  // Two layers correct at once: 2 x 3 x 8 places.
  EXPECT_LE(Sum(budget.of_head) + 48, kHeads * 30);
  EXPECT_GT(Sum(budget.of_head) + 48, kHeads * 29);
}

TEST(BudgetTest, TheTailIsSetApart) {
  constexpr size_t kTailBytes = 1'515'225;
  Budget budget{.blocks = 30, .corrected = 8};
  SpreadBudget(kGeometry, 464, nullptr, kTailBytes, &budget);
  const size_t held = Sum(budget.of_head) * kGeometry.BlockBytes();
  const size_t most = size_t{30} * kHeads * kGeometry.BlockBytes();
  EXPECT_LE(held + kTailBytes, most);
  EXPECT_GT(held + kTailBytes, most - kHeads * kGeometry.BlockBytes());
  // It never takes what must be there.
  budget = {.blocks = 6};
  SpreadBudget(kGeometry, 464, nullptr, kTailBytes, &budget);
  EXPECT_EQ(budget.BlocksOf(89), budget.Floor());
}

TEST(BudgetTest, ProfileKeepsTheTotalAndTheFloor) {
  for (const bool lends : {false, true}) {
    for (const int blocks : {7, 8, 14, 30, 58}) {
      Budget budget{.blocks = blocks, .corrected = 2, .lends = lends};
      SpreadBudget(kGeometry, 464, &BuiltinBudgetProfile(), 0, &budget);
      int total = lends ? 12 : 0;
      for (size_t head = 0; head < kHeads; ++head) {
        EXPECT_GE(budget.BlocksOf(head), budget.Floor());
        total += budget.BlocksOf(head);
      }
      EXPECT_LE(total, kHeads * blocks) << blocks << ", lends " << lends;
    }
  }
}

TEST(BudgetTest, ContextThatFitsIsHeldWhole) {
  Budget budget{.blocks = 54, .corrected = 8, .lends = true};
  SpreadBudget(kGeometry, 54, &BuiltinBudgetProfile(), 0, &budget);
  EXPECT_TRUE(budget.of_head.empty());
  EXPECT_EQ(budget.BlocksOf(0), 54);
}

}  // namespace
}  // namespace forecache
