#include "transport/backoff.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"

namespace forecache {
namespace {

constexpr Nanos kHour = 3600 * kSecond;

TEST(BackoffTest, TheFirstTryIsDueAtOnce) {
  Backoff backoff({}, 1);
  EXPECT_TRUE(backoff.Due(0));
  EXPECT_EQ(backoff.failures(), 0);
}

TEST(BackoffTest, WaitsGrowToTheirBound) {
  const BackoffOptions options = {.jitter = 0};
  Backoff backoff(options, 1);
  Nanos now = kSecond;
  Nanos expected = options.first;
  for (int i = 0; i < 40; ++i) {
    backoff.Failed(now);
    EXPECT_EQ(backoff.next() - now, expected) << i;
    EXPECT_FALSE(backoff.Due(backoff.next() - 1));
    EXPECT_TRUE(backoff.Due(backoff.next()));
    now = backoff.next();
    expected = std::min(2 * expected, options.max);
  }
  EXPECT_EQ(backoff.failures(), 40);
}

TEST(BackoffTest, JitterStaysWithinItsPart) {
  const BackoffOptions options = {.factor = 1, .jitter = 0.5};
  Backoff backoff(options, 7);
  Nanos least = options.max;
  Nanos most = 0;
  for (Nanos now = 0; backoff.failures() < 1000; now = backoff.next()) {
    backoff.Failed(now);
    least = std::min(least, backoff.next() - now);
    most = std::max(most, backoff.next() - now);
  }
  EXPECT_GE(least, options.first / 2);
  EXPECT_LT(least, options.first * 0.55);
  EXPECT_LE(most, options.first);
  EXPECT_GT(most, options.first * 0.95);
}

TEST(BackoffTest, SeedsRepeatAndDiffer) {
  std::vector<Nanos> nexts[3];
  const uint64_t seeds[3] = {5, 5, 6};
  for (int run = 0; run < 3; ++run) {
    Backoff backoff({}, seeds[run]);
    for (Nanos now = 0; backoff.failures() < 50; now = backoff.next()) {
      backoff.Failed(now);
      nexts[run].push_back(backoff.next());
    }
  }
  EXPECT_EQ(nexts[0], nexts[1]);
  EXPECT_NE(nexts[0], nexts[2]);
}

TEST(BackoffTest, APeerThatAcceptsAndDiesIsNotHammered) {
  const BackoffOptions options = {.jitter = 0};
  Backoff backoff(options, 1);
  Nanos now = 0;
  for (int i = 0; i < 20; ++i) {
    backoff.Connected(now);
    backoff.Failed(now + kMillisecond);
    now = backoff.next();
  }
  backoff.Failed(now);
  EXPECT_EQ(backoff.next() - now, options.max);
  // One stable connection forgives.
  backoff.Connected(now);
  now += options.stable_after;
  backoff.Failed(now);
  EXPECT_EQ(backoff.next() - now, options.first);
  EXPECT_EQ(backoff.failures(), 1);
}

// 24 hours of a store that is down for the most part, by hand-moved time: no
// more tries than the waits allow, and none missed by more than the bound.
TEST(BackoffTest, ADayOfReconnects) {
  const BackoffOptions options;
  Rng rng(24);
  Backoff backoff(options, 3);
  uint64_t tries = 0;
  uint64_t connects = 0;
  uint64_t storms = 0;  // tries within the shortest wait of the last
  Nanos last = -kHour;
  Nanos now = 0;
  while (now < 24 * kHour) {
    now = std::max(now, backoff.next());
    ASSERT_TRUE(backoff.Due(now));
    storms += now - last < options.first / 2;
    last = now;
    ++tries;
    if (rng.Uniform() < 0.1) {
      backoff.Connected(now);
      ++connects;
      now += rng.Below(600) * kSecond;
    }
    backoff.Failed(now);
    ASSERT_GT(backoff.next(), now);
    ASSERT_LE(backoff.next() - now, options.max);
  }
  EXPECT_GT(connects, 100);
  EXPECT_EQ(storms, 0);
  // A try takes 7.5 s of waiting on average, once the waits have grown.
  EXPECT_LT(tries, 24 * kHour / (options.max / 2));
}

}  // namespace
}  // namespace forecache
