// An SsdTier over a disk in memory that outlives it.
#ifndef FORECACHE_TESTS_KVSTORE_SSD_TIER_FIXTURE_H_
#define FORECACHE_TESTS_KVSTORE_SSD_TIER_FIXTURE_H_

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "common/check.h"
#include "common/metrics.h"
#include "kvstore/ssd/ssd_tier.h"
#include "kvstore/ssd/testing/memory_disk.h"
#include "tests/kvstore/context.h"

namespace forecache {

class SsdTierFixture : public ::testing::Test {
 protected:
  // What a new process does.
  void Open() {
    tier_ = nullptr;
    metrics_ = std::make_unique<Metrics>();
    auto tier = SsdTier::Open({.capacity_bytes = size_t{32} << 20,
                               .extent_bytes = size_t{64} << 10},
                              NewMemoryDisk(files_), arena_.get(),
                              metrics_.get());
    FC_CHECK_OK(tier.status());
    tier_ = *std::move(tier);
  }

  std::shared_ptr<Segment> Sealed() {
    return SealedSegment(context_, 0, CodeKind::k4Bit, arena_.get());
  }
  static bool Always(size_t) { return true; }  // a gate

  const TestContext context_{1, 1};
  std::shared_ptr<MemoryFiles> files_ = std::make_shared<MemoryFiles>();
  std::unique_ptr<DramArena> arena_ = *DramArena::Create(size_t{8} << 20);
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<SsdTier> tier_;
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_SSD_TIER_FIXTURE_H_
