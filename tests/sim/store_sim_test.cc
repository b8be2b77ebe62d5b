// Seeds of the store's simulation: FORECACHE_SIM_SEEDS of them (200), from
// FORECACHE_SIM_SEED on (1).  A failure names its seed: run that one alone.
#include "tests/sim/store_sim.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "common/log.h"

namespace forecache {
namespace {

uint64_t FromEnvironment(const char* name, uint64_t fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : std::strtoull(value, nullptr, 10);
}

class StoreSimTest : public ::testing::Test {
 protected:
  StoreSimTest() { InitLog("sim", LogLevel::kError); }
};

TEST_F(StoreSimTest, KeepsItsPromisesOnEverySeed) {
  const uint64_t first = FromEnvironment("FORECACHE_SIM_SEED", 1);
  const uint64_t seeds = FromEnvironment("FORECACHE_SIM_SEEDS", 200);
  uint64_t read = 0, restarts = 0, evictions = 0;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    const SimResult result = RunStoreSim({.seed = seed});
    ASSERT_EQ(result.failure, "")
        << "FORECACHE_SIM_SEED=" << seed << " FORECACHE_SIM_SEEDS=1";
    read += result.blocks_read;
    restarts += result.restarts;
    evictions += result.evictions;
  }
  std::printf("%lu seeds: %lu blocks compared, %lu restarts, %lu evictions\n",
              seeds, read, restarts, evictions);
  if (seeds < 50) return;
  EXPECT_GT(read, seeds * 20);
  EXPECT_GT(restarts, seeds);
  EXPECT_GT(evictions, 0u);
}

TEST_F(StoreSimTest, TheSameSeedTakesTheSameCourse) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    const uint64_t trace = RunStoreSim({.seed = seed}).trace;
    EXPECT_EQ(RunStoreSim({.seed = seed}).trace, trace) << "seed " << seed;
    EXPECT_NE(RunStoreSim({.seed = seed + 1000}).trace, trace);
  }
}

// A simulation that finds nothing proves nothing.
std::string FirstFailure(Plant plant) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const SimResult result = RunStoreSim({.seed = seed, .plant = plant});
    if (!result.failure.empty()) return result.failure;
  }
  return "none";
}

TEST_F(StoreSimTest, FindsADiskThatForgets) {
  EXPECT_NE(FirstFailure(Plant::kDiskForgets).find("is lost"),
            std::string::npos)
      << FirstFailure(Plant::kDiskForgets);
}

TEST_F(StoreSimTest, FindsForeignBytes) {
  EXPECT_NE(FirstFailure(Plant::kForeignBytes).find("is wrong"),
            std::string::npos)
      << FirstFailure(Plant::kForeignBytes);
}

}  // namespace
}  // namespace forecache
