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
  SpreadBudget(kGeometry, 464, nullptr, &budget);
  EXPECT_TRUE(budget.of_head.empty());
  EXPECT_EQ(budget.BlocksOf(7), 30);
}

TEST(BudgetTest, WhatIsLentIsSetApart) {
  Budget budget{.blocks = 30, .corrected = 8, .lends = true};
  SpreadBudget(kGeometry, 464, nullptr, &budget);
  // Two layers correct at once: 2 x 3 x 8 places.
  EXPECT_LE(Sum(budget.of_head) + 48, kHeads * 30);
  EXPECT_GT(Sum(budget.of_head) + 48, kHeads * 29);
}

TEST(BudgetTest, ProfileKeepsTheTotalAndTheFloor) {
  for (const bool lends : {false, true}) {
    for (const int blocks : {7, 8, 14, 30, 58}) {
      Budget budget{.blocks = blocks, .corrected = 2, .lends = lends};
      SpreadBudget(kGeometry, 464, &BuiltinBudgetProfile(), &budget);
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
  SpreadBudget(kGeometry, 54, &BuiltinBudgetProfile(), &budget);
  EXPECT_TRUE(budget.of_head.empty());
  EXPECT_EQ(budget.BlocksOf(0), 54);
}

}  // namespace
}  // namespace forecache
