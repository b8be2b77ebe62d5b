#include "kvstore/client/lost_stores.h"

#include "common/rng.h"
#include "gtest/gtest.h"

namespace forecache {
namespace {

constexpr Nanos kHour = 3600 * kSecond;

TEST(LostStoresTest, TriesTheLostOnesAndNoOthers) {
  LostStores stores(3, 1);
  Nanos next = 0;
  EXPECT_EQ(stores.TakeDue(kHour, &next), -1);
  EXPECT_TRUE(stores.Lost(1, kHour));
  EXPECT_FALSE(stores.Lost(1, kHour));
  EXPECT_EQ(stores.TakeDue(kHour, &next), -1);
  EXPECT_GT(next, kHour);
  EXPECT_LE(next, kHour + kReconnectFirst);
  EXPECT_EQ(stores.TakeDue(next, &next), 1);
  // While it is being tried nobody else tries it.
  EXPECT_EQ(stores.TakeDue(2 * kHour, &next), -1);
  stores.Tried(1, true, 2 * kHour);
  EXPECT_EQ(stores.TakeDue(3 * kHour, &next), -1);
}

TEST(LostStoresTest, ALossDuringTheTryIsNews) {
  LostStores stores(1, 1);
  stores.Lost(0, kHour);
  Nanos next = 0;
  Nanos now = kHour + kReconnectFirst;
  ASSERT_EQ(stores.TakeDue(now, &next), 0);
  EXPECT_TRUE(stores.Lost(0, now));
  stores.Tried(0, true, now);
  EXPECT_EQ(stores.TakeDue(now, &next), -1);
  EXPECT_EQ(stores.TakeDue(now + kReconnectMost, &next), 0);
}

// What production uses, for 24 hours of hand-moved time: three stores that are
// down for the most part, come back, and break again, now and then at once.
TEST(LostStoresTest, ADayOfReconnects) {
  LostStores stores(3, 24);
  Rng rng(7);
  struct Store {
    bool up = true;
    Nanos breaks = 0;   // when it is up
    Nanos returns = 0;  // when it is down
    Nanos tried = -kHour;
  } of[3];
  uint64_t tries = 0, reconnects = 0, down_seconds = 0;
  Nanos now = 30 * kSecond;
  while (now < 24 * kHour) {
    for (int m = 0; m < 3; ++m) {
      if (of[m].up && of[m].breaks <= now) {
        of[m].up = false;
        of[m].returns = now + rng.Below(600) * kSecond;
        down_seconds += (of[m].returns - now) / kSecond;
        ASSERT_TRUE(stores.Lost(m, now));
      }
    }
    Nanos next = 0;
    const int member = stores.TakeDue(now, &next);
    if (member < 0) {
      ASSERT_GT(next, now);
      ASSERT_LE(next - now, kReconnectMost);
      for (const Store& store : of) {
        if (store.up) next = std::min(next, store.breaks);
      }
      now = std::max(next, now + 1);
      continue;
    }
    Store& store = of[member];
    ASSERT_FALSE(store.up);
    // Never a storm, and found within the longest wait.
    EXPECT_GE(now - store.tried, kReconnectFirst / 2);
    store.tried = now;
    ++tries;
    store.up = store.returns <= now;
    if (store.up) {
      EXPECT_LE(now - store.returns, kReconnectMost);
      ++reconnects;
      store.breaks = now + (rng.Below(4) == 0 ? 0 : rng.Below(60) * kSecond);
    }
    stores.Tried(member, store.up, now);
  }
  EXPECT_GT(reconnects, 500u);
  // Waits are 3/4 of kReconnectMost on average once they have grown; each
  // outage begins with six shorter ones at most.
  EXPECT_LT(tries, down_seconds * kSecond / (kReconnectMost / 2) +
                       7 * (reconnects + 3));
}

}  // namespace
}  // namespace forecache
