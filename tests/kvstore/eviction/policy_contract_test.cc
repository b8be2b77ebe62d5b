// What every eviction policy must do, run on all of them.
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/rng.h"
#include "kvstore/eviction/policy.h"
#include "kvstore/index.h"

namespace forecache {
namespace {

SegmentId Id(uint64_t number) {
  SegmentId id{{0, 0, 0, 0, 0, 0, 0, 0, 1}};
  std::memcpy(id.bytes.data(), &number, sizeof(number));
  return id;
}

class PolicyContractTest : public ::testing::TestWithParam<std::string> {
 protected:
  std::unique_ptr<EvictionPolicy> NewPolicy(uint64_t seed = 1) {
    return NewEvictionPolicy(GetParam(), seed);
  }
  Index NewIndex(uint64_t seed = 1) { return Index(NewPolicy(seed)); }
};

// Random requests over a tree of contexts, through an index of `capacity`.
// Returns the victims in order.
std::vector<SegmentId> RunRequests(Index* index, uint64_t seed,
                                   size_t capacity) {
  Rng rng(seed);
  std::map<SegmentId, SegmentId> parents;  // of what is held
  std::vector<SegmentId> victims;
  Nanos now = 0;
  for (int i = 0; i < 2'000; ++i) {
    now += rng.Below(10) * kSecond;
    // Context c is c*100, c*100+1, ... behind the root segment 0.
    const uint64_t context = 1 + rng.Below(60);
    std::vector<SegmentId> chain = {Id(0)};
    const size_t length = 1 + rng.Below(12);
    for (size_t k = 0; k < length; ++k) chain.push_back(Id(context * 100 + k));
    index->Arrive({.now = now, .chain = chain,
                   .tail_is_full = rng.Below(4) != 0});
    std::vector<Index::EntryRef> pins;
    for (size_t k = 0; k < chain.size(); ++k) {
      if (auto pin = index->Pin(chain[k])) {
        pins.push_back(pin);
        continue;
      }
      if (index->size() >= capacity) {
        if (!index->Admits(chain[k])) break;
        auto victim = index->Evict();
        if (!victim) break;
        victims.push_back(*victim);
        parents.erase(*victim);
        for (const auto& [child, parent] : parents) {
          EXPECT_NE(parent, *victim) << "its child is held";
        }
        for (const auto& pin : pins) EXPECT_NE(pin->id, *victim) << "pinned";
      }
      const SegmentId parent = k > 0 ? chain[k - 1] : kRootSegment;
      pins.push_back(index->Insert(chain[k], parent));
      parents[chain[k]] = parent;
    }
    EXPECT_LE(index->size(), capacity);
    for (const auto& pin : pins) index->Unpin(pin);
  }
  return victims;
}

TEST_P(PolicyContractTest, NeverAParentBeforeItsChildrenNorWhatIsPinned) {
  Index index = NewIndex();
  EXPECT_GT(RunRequests(&index, 7, 100).size(), 500);
}

TEST_P(PolicyContractTest, SameSeedAndCallsGiveTheSameVictims) {
  Index first = NewIndex(), second = NewIndex();
  EXPECT_EQ(RunRequests(&first, 8, 150), RunRequests(&second, 8, 150));
}

TEST_P(PolicyContractTest, EverythingUnpinnedGoesInTheEnd) {
  Index index = NewIndex();
  RunRequests(&index, 9, 80);
  const size_t held = index.size();
  EXPECT_EQ(held, 80);
  for (size_t i = 0; i < held; ++i) EXPECT_TRUE(index.Evict());
  EXPECT_EQ(index.Evict(), std::nullopt);
  EXPECT_EQ(index.size(), 0);
}

TEST_P(PolicyContractTest, NothingGoesWhileEverythingIsPinned) {
  Index index = NewIndex();
  auto pin = index.Insert(Id(1), kRootSegment);
  EXPECT_FALSE(index.Evict());
  index.Unpin(pin);
  EXPECT_EQ(index.Evict(), Id(1));
}

TEST_P(PolicyContractTest, TheVictimStaysTheSameUntilSomethingChanges) {
  auto policy = NewPolicy();
  for (int i = 0; i < 500; ++i) {
    policy->Insert(Id(i), 0, 1);
    policy->SetEvictable(Id(i), true);
  }
  auto victim = policy->Victim({});
  ASSERT_TRUE(victim);
  EXPECT_EQ(policy->Victim({}), victim);
  policy->SetEvictable(*victim, false);
  EXPECT_NE(policy->Victim({}), victim);
}

TEST_P(PolicyContractTest, ASegmentThatWentMayComeBack) {
  auto policy = NewPolicy();
  for (int round = 0; round < 3; ++round) {
    policy->Insert(Id(1), 0, 1);
    EXPECT_FALSE(policy->Victim({}));
    policy->SetEvictable(Id(1), true);
    EXPECT_EQ(policy->Victim({}), Id(1));
    policy->Touch(Id(1));
    policy->Erase(Id(1));
    EXPECT_FALSE(policy->Victim({}));
  }
}

TEST_P(PolicyContractTest, WithoutAnyUseTheOldestGoesFirst) {
  auto policy = NewPolicy();
  for (int i = 0; i < 20; ++i) policy->Insert(Id(i), 0, 1);
  for (int i = 19; i >= 0; --i) policy->SetEvictable(Id(i), true);
  EXPECT_EQ(policy->Victim({}), Id(0));
}

// Each owner's segments can be spared, and asked for alone.
TEST_P(PolicyContractTest, TakesOnlyFromOwnersThatMayLose) {
  auto policy = NewPolicy();
  for (int i = 0; i < 40; ++i) {
    policy->Insert(Id(i), i % 4, 1);
    policy->SetEvictable(Id(i), true);
  }
  const auto owner_of = [](const SegmentId& id) {
    for (int i = 0; i < 40; ++i) {
      if (Id(i) == id) return i % 4;
    }
    return -1;
  };
  for (int i = 0; i < 10; ++i) {
    auto victim = policy->Victim([](uint32_t owner) { return owner == 2; });
    ASSERT_TRUE(victim.has_value());
    EXPECT_EQ(owner_of(*victim), 2);
    policy->Erase(*victim);
  }
  EXPECT_FALSE(policy->Victim([](uint32_t owner) { return owner == 2; }));
  for (int i = 0; i < 20; ++i) {
    auto victim = policy->Victim([](uint32_t owner) { return owner != 3; });
    ASSERT_TRUE(victim.has_value());
    EXPECT_NE(owner_of(*victim), 3);
    policy->Erase(*victim);
  }
  EXPECT_FALSE(policy->Victim([](uint32_t owner) { return owner != 3; }));
  EXPECT_TRUE(policy->Victim({}));
}

INSTANTIATE_TEST_SUITE_P(All, PolicyContractTest,
                         ::testing::ValuesIn(EvictionPolicyNames()),
                         [](const auto& info) { return info.param; });

TEST(EvictionPolicyTest, UnknownNamesGiveNothing) {
  EXPECT_EQ(NewEvictionPolicy("fifo", 1), nullptr);
  EXPECT_NE(NewEvictionPolicy(kEvictionDefault, 1), nullptr);
}

}  // namespace
}  // namespace forecache
