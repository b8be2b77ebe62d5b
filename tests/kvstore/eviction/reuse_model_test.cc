#include "kvstore/eviction/reuse_model.h"

#include <gtest/gtest.h>

namespace forecache {
namespace {

TEST(ReuseModelTest, AgesCoverAllTimesInOrder) {
  EXPECT_EQ(ReuseModel::AgeOf(0), 0);
  EXPECT_EQ(ReuseModel::AgeOf(5 * kSecond - 1), 0);
  EXPECT_EQ(ReuseModel::AgeOf(5 * kSecond), 1);
  for (int age = 1; age < ReuseModel::kAges; ++age) {
    EXPECT_EQ(ReuseModel::AgeOf(ReuseModel::StartOf(age)), age);
    EXPECT_EQ(ReuseModel::AgeOf(ReuseModel::StartOf(age) - 1), age - 1);
  }
  EXPECT_EQ(ReuseModel::AgeOf(1'000'000 * kSecond), ReuseModel::kAges - 1);
}

TEST(ReuseModelTest, KnowsNothingAtFirst) {
  ReuseModel model(2);
  model.Update();
  for (int age = 0; age < ReuseModel::kAges; ++age) {
    EXPECT_EQ(model.Value(0, age), 0);
  }
}

// Class 0: one in two is used in the first 5 s, the rest never.
TEST(ReuseModelTest, ValueIsUsesForASecondOfKeeping) {
  ReuseModel model(2);
  constexpr int kMany = 100'000;
  for (int i = 0; i < kMany; ++i) {
    model.CountAlive(0, 0);
    if (i % 2 == 0) {
      model.CountReuse(0, 0);
    } else {
      for (int age = 1; age < ReuseModel::kAges; ++age) {
        model.CountAlive(0, age);
      }
    }
  }
  model.Update();
  // Half a use, for 2.5 s of those that are used and 5 s of the others.
  EXPECT_NEAR(model.Value(0, 0), 0.5 / 3.75, 1e-3);
  EXPECT_EQ(model.Value(0, 1), 0);
  // A class that was never seen borrows from all.
  EXPECT_NEAR(model.Value(1, 0), 0.5 / 3.75, 1e-3);
}

// A use that is sure to come later is worth waiting for.
TEST(ReuseModelTest, ValueLooksBeyondAnAgeWithoutUses) {
  ReuseModel model(1);
  for (int i = 0; i < 100'000; ++i) {
    for (int age = 0; age <= 4; ++age) model.CountAlive(0, age);
    model.CountReuse(0, 4);
  }
  model.Update();
  EXPECT_GT(model.Value(0, 0), 0);
  EXPECT_GT(model.Value(0, 3), model.Value(0, 0));
  EXPECT_EQ(model.Value(0, 5), 0);
}

TEST(ReuseModelTest, OldCountsFade) {
  ReuseModel model(1);
  for (int i = 0; i < 1'000; ++i) {
    model.CountAlive(0, 0);
    model.CountReuse(0, 0);
  }
  model.Update();
  const float before = model.Value(0, 0);
  for (int i = 0; i < 50'000'000; i += 1) model.Fade();  // beyond a rescale
  for (int i = 0; i < 1'000; ++i) model.CountAlive(0, 0);
  model.Update();
  EXPECT_LT(model.Value(0, 0), before / 100);
}

}  // namespace
}  // namespace forecache
