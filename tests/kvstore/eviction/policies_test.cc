// What sets each policy apart from the others.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

#include "common/limits.h"
#include "kvstore/eviction/lfu.h"
#include "kvstore/eviction/lru.h"
#include "kvstore/eviction/recompute_cost.h"
#include "kvstore/eviction/reuse.h"
#include "kvstore/eviction/s3fifo.h"

namespace forecache {
namespace {

SegmentId Id(uint64_t number) {
  SegmentId id{{0, 0, 0, 0, 0, 0, 0, 0, 1}};
  std::memcpy(id.bytes.data(), &number, sizeof(number));
  return id;
}

void Add(EvictionPolicy* policy, uint64_t number) {
  policy->Insert(Id(number), 0, 1);
  policy->SetEvictable(Id(number), true);
}

TEST(LruEvictionTest, AUseCountsMoreThanMany) {
  LruEviction policy;
  for (int i = 0; i < 3; ++i) Add(&policy, i);
  for (int i = 0; i < 5; ++i) policy.Touch(Id(0));
  policy.Touch(Id(1));
  EXPECT_EQ(policy.Victim({}), Id(2));
  policy.Erase(Id(2));
  EXPECT_EQ(policy.Victim({}), Id(0));
}

TEST(LfuEvictionTest, ManyUsesCountMoreThanOne) {
  LfuEviction policy;
  for (int i = 0; i < 3; ++i) Add(&policy, i);
  for (int i = 0; i < 5; ++i) policy.Touch(Id(0));
  policy.Touch(Id(1));
  EXPECT_EQ(policy.Victim({}), Id(2));
  policy.Erase(Id(2));
  EXPECT_EQ(policy.Victim({}), Id(1));
}

TEST(S3FifoEvictionTest, WhatWasUsedOutlivesAScan) {
  S3FifoEviction policy;
  for (int i = 0; i < 20; ++i) Add(&policy, i);
  policy.Touch(Id(0));
  policy.Touch(Id(7));
  for (int i = 100; i < 200; ++i) {
    auto victim = policy.Victim({});
    ASSERT_TRUE(victim);
    EXPECT_NE(*victim, Id(0));
    EXPECT_NE(*victim, Id(7));
    policy.Erase(*victim);
    Add(&policy, i);
  }
}

TEST(S3FifoEvictionTest, AGhostComesBackToTheMainQueue) {
  S3FifoEviction policy;
  for (int i = 0; i < 20; ++i) Add(&policy, i);
  policy.Erase(Id(3));
  Add(&policy, 3);
  for (int i = 0; i < 18; ++i) {  // all others but one, in their order
    ASSERT_NE(policy.Victim({}), Id(3));
    policy.Erase(*policy.Victim({}));
  }
}

// Requests of `chains`, all evictable afterwards.
class ReuseEvictionTest : public ::testing::Test {
 protected:
  void Request(Nanos now, const std::vector<uint64_t>& numbers,
               bool tail_is_full = true) {
    std::vector<SegmentId> chain;
    for (uint64_t number : numbers) chain.push_back(Id(number));
    policy_.Arrive(
        {.now = now, .chain = chain, .tail_is_full = tail_is_full});
    for (uint64_t number : numbers) {
      if (held_[number]) {
        policy_.Touch(Id(number));
      } else {
        policy_.Insert(Id(number), 0, 1);
        policy_.SetEvictable(Id(number), true);
        held_[number] = true;
      }
    }
  }

  void Evict(uint64_t number) {
    policy_.Erase(Id(number));
    held_[number] = false;
  }

  // Pairs of segments used twice, 30 s apart, and lone ones never again.
  void Train() {
    for (int i = 0; i < 3'000; ++i) {
      const Nanos now = i * kSecond;
      const uint64_t lone = 1'000'000 + i, pair = 2'000'000 + i * 2;
      Request(now, {lone, lone + 500'000'000, lone + 600'000'000,
                    lone + 700'000'000});
      Request(now, {pair, pair + 1});
      if (i >= 30) Request(now, {pair - 60, pair - 59});
      if (i < 100) continue;
      for (uint64_t gone : {lone - 100, lone + 499'999'900, lone + 599'999'900,
                            lone + 699'999'900, pair - 200, pair - 199}) {
        Evict(gone);
      }
    }
    now_ = 3'000 * kSecond;
  }

  ReuseEviction policy_{1};
  std::map<uint64_t, bool> held_;
  Nanos now_ = 0;
};

TEST_F(ReuseEvictionTest, LearnsWhichKindComesBack) {
  Train();
  for (auto& [number, held] : held_) {
    if (held) Evict(number);
  }
  Request(now_, {1, 2});            // will come back
  Request(now_, {11, 12, 13, 14});  // will not
  Request(now_ + 20 * kSecond, {21, 22});
  auto victim = policy_.Victim({});
  ASSERT_TRUE(victim);
  EXPECT_TRUE(*victim == Id(11) || *victim == Id(12) || *victim == Id(13) ||
              *victim == Id(14));
}

TEST_F(ReuseEvictionTest, RefusesWhatIsWorthLessThanItsVictim) {
  Train();
  for (auto& [number, held] : held_) {
    if (held) Evict(number);
  }
  Request(now_, {1, 2});
  std::vector<SegmentId> poor = {Id(31), Id(32), Id(33), Id(34)};
  policy_.Arrive({.now = now_ + kSecond, .chain = poor});
  EXPECT_FALSE(policy_.Admit(poor[0], 1));
  std::vector<SegmentId> like = {Id(41), Id(42)};
  policy_.Arrive({.now = now_ + 2 * kSecond, .chain = like});
  EXPECT_EQ(policy_.Victim({}).has_value(), true);
}

TEST_F(ReuseEvictionTest, OfEqualsTheCheapestToComputeAgainGoes) {
  Train();
  for (auto& [number, held] : held_) {
    if (held) Evict(number);
  }
  const SegmentId chain[] = {Id(1), Id(2)};
  policy_.Arrive({.now = now_, .chain = chain});
  policy_.Insert(chain[0], 0, 2);
  policy_.Insert(chain[1], 0, 1);
  for (const SegmentId& id : chain) policy_.SetEvictable(id, true);
  EXPECT_EQ(policy_.Victim({}), chain[1]);
  const SegmentId cheaper[] = {Id(7), Id(8)};
  policy_.Arrive({.now = now_, .chain = cheaper});
  EXPECT_FALSE(policy_.Admit(cheaper[0], 0.5));
  EXPECT_TRUE(policy_.Admit(cheaper[0], 2));
}

TEST(RecomputeCostTest, GrowsWithTheContextAndTheModel) {
  const KvGeometry small = {.layers = 30, .kv_heads = 3, .head_dim = 64,
                            .group = 3};
  const KvGeometry large = {.layers = 32, .kv_heads = 8, .head_dim = 128,
                            .group = 4};
  // Its weights' 6.4e9, not counting embeddings, 256 times; little attention.
  EXPECT_NEAR(RecomputeCost(large, 0), 6.4e9 * 256, 0.05 * 6.4e9 * 256);
  // At 12 h tokens before a segment attention costs twice the weights.
  const size_t number = 12 * 576 / kSegmentTokens;
  EXPECT_NEAR(RecomputeCost(small, number) / RecomputeCost(small, 0), 3, 0.2);
  EXPECT_GT(WorthOf(large, 0, large.SegmentBytes()),
            5 * WorthOf(small, 0, small.SegmentBytes()));
}

TEST_F(ReuseEvictionTest, RemembersNoMoreThanItsLimit) {
  const uint64_t requests = kEvictionHistoryMax / 4;
  for (uint64_t i = 0; i < requests; ++i) {
    std::vector<SegmentId> chain;
    for (uint64_t k = 0; k < 10; ++k) chain.push_back(Id(i * 10 + k));
    policy_.Arrive({.now = static_cast<Nanos>(i), .chain = chain});
  }
  EXPECT_LE(policy_.size(), kEvictionHistoryMax);
  EXPECT_GT(policy_.size(), kEvictionHistoryMax / 2);
}

TEST_F(ReuseEvictionTest, ForgetsWhatWentOnceItIsTooOld) {
  Request(0, {1});
  for (uint64_t i = 0; i <= kEvictionHistoryMax; ++i) {
    std::vector<SegmentId> chain = {Id(100 + i)};
    policy_.Arrive({.now = 0, .chain = chain});
  }
  const size_t with_held = policy_.size();
  Evict(1);
  EXPECT_EQ(policy_.size(), with_held - 1);
}

}  // namespace
}  // namespace forecache
