#include "worker/traffic_floor.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/limits.h"
#include "common/rng.h"

namespace forecache {
namespace {

constexpr int kHeads = 90;

// What blocks would be worth, whose traffic is what passes the floor: many are
// worth little, and some tokens (one of `burst_every`) want many more.
int Moved(double floor, int token, int burst_every, Rng* rng) {
  const bool bursts = burst_every > 0 && token % burst_every == 0;
  const double wanted = bursts ? 24 : 8;
  double sum = 0;
  for (int head = 0; head < kHeads; ++head) {
    const double scale = 0.001 * (1 + head % 7);
    sum += std::min(24.0, wanted * std::exp(-floor / scale) *
                              (0.5 + rng->Uniform()));
  }
  return static_cast<int>(sum);
}

struct Trace {
  double mean = 0;  // blocks a head and token
  std::vector<float> floors;
};

Trace RunTrace(double target, int tokens, int burst_every, uint64_t seed) {
  TrafficFloor floor(target, kHeads, 0);
  Rng rng(seed);
  Trace trace;
  for (int token = 0; token < tokens; ++token) {
    const int moved = Moved(floor.floor(), token, burst_every, &rng);
    trace.mean += double(moved) / kHeads / tokens;
    floor.Count(moved);
    floor.EndToken();
    trace.floors.push_back(floor.floor());
  }
  return trace;
}

TEST(TrafficFloorTest, ComesToItsTarget) {
  for (const double target : {0.5, 1.0, 2.0, 4.0, 6.0}) {
    for (const int burst_every : {0, 5, 37}) {
      const Trace trace = RunTrace(target, 1000, burst_every, 7);
      EXPECT_NEAR(trace.mean, target, 0.05 * target + 0.02)
          << target << ", bursts every " << burst_every;
    }
  }
}

TEST(TrafficFloorTest, SurplusesSumToTheFloorsChange) {
  const Trace trace = RunTrace(4, 256, 16, 3);
  const double gone = std::log(trace.floors.back() / 0.004);
  EXPECT_NEAR((trace.mean - 4) * 256, 4 * kTrafficFollowTokens * gone, 0.05);
}

TEST(TrafficFloorTest, StaysInsideItsBounds) {
  TrafficFloor floor(4, kHeads, 0);
  for (int token = 0; token < 2000; ++token) {
    floor.EndToken();
    ASSERT_GE(floor.floor(), kTrafficFloorLeast);
  }
  EXPECT_EQ(floor.floor(), kTrafficFloorLeast);
  for (int token = 0; token < 2000; ++token) {
    floor.Count(kHeads * 1000);
    floor.EndToken();
    ASSERT_LE(floor.floor(), kTrafficFloorMost);
  }
  EXPECT_EQ(floor.floor(), kTrafficFloorMost);
  // It does not remember how long it stood there.
  for (int token = 0; token < 2 * kTrafficFollowTokens; ++token) {
    floor.EndToken();
  }
  EXPECT_LT(floor.floor(), kTrafficFloorMost / 4);
}

TEST(TrafficFloorTest, EqualCountsEqualFloors) {
  EXPECT_EQ(RunTrace(4, 300, 5, 11).floors, RunTrace(4, 300, 5, 11).floors);
  EXPECT_NE(RunTrace(4, 300, 5, 11).floors, RunTrace(4, 300, 5, 12).floors);
}

TEST(TrafficFloorTest, WithoutATargetTheFloorIsFixed) {
  TrafficFloor floor(0, kHeads, 0.004f);
  EXPECT_FALSE(floor.steers());
  for (int token = 0; token < 100; ++token) {
    floor.Count(kHeads * 24);
    floor.EndToken();
  }
  EXPECT_EQ(floor.floor(), 0.004f);
  EXPECT_EQ(floor.margin(), 0);
}

TEST(TrafficFloorTest, TheLeastAndTheMostTargetAreFinite) {
  for (const double target : {1e-9, 0.1, double{kTrafficTargetMax}}) {
    TrafficFloor floor(target, 1, 0);
    EXPECT_GE(floor.floor(), kTrafficFloorLeast);
    EXPECT_LE(floor.floor(), kTrafficFloorMost);
    floor.Count(1 << 20);
    floor.EndToken();
    EXPECT_EQ(floor.floor(), kTrafficFloorMost);
    EXPECT_GT(floor.margin(), 0);
    EXPECT_LT(floor.margin(), floor.floor());
  }
}

}  // namespace
}  // namespace forecache
