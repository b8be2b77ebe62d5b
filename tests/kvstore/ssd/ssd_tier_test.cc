// What several threads do to the tier at once.
#include "kvstore/ssd/ssd_tier.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "common/check.h"
#include "common/metrics.h"
#include "common/monotonic_cond.h"
#include "kvstore/ssd/testing/memory_disk.h"
#include "tests/kvstore/context.h"

namespace forecache {
namespace {

constexpr SegmentId kId{{1}};

class SsdTierTest : public ::testing::Test {
 protected:
  SsdTierTest() { Open(); }

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

  absl::Status Write(const SsdTier::WriteGate& gate) {
    return tier_->Write(kId, {}, *segment_, gate);
  }

  const TestContext context_{1, 1};
  std::shared_ptr<MemoryFiles> files_ = std::make_shared<MemoryFiles>();
  std::unique_ptr<DramArena> arena_ = *DramArena::Create(size_t{8} << 20);
  const std::shared_ptr<Segment> segment_ =
      SealedSegment(context_, 0, CodeKind::k4Bit, arena_.get());
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<SsdTier> tier_;
};

// Its record would be the one that goes: found until a restart, then lost.
TEST_F(SsdTierTest, AWriteWaitsForTheDropOfTheSameSegment) {
  ASSERT_EQ(Write([](size_t) { return true; }), absl::OkStatus());
  const int64_t step = files_->steps();
  files_->HoldStep(step);
  std::thread drops([&] { EXPECT_EQ(tier_->Drop(kId), absl::OkStatus()); });
  while (files_->steps() == step) std::this_thread::yield();
  absl::Mutex mu;
  MonotonicCond changed;
  bool writing = false;
  std::thread writes([&] {
    EXPECT_EQ(Write([&](size_t) {
                absl::MutexLock lock(&mu);
                writing = true;
                changed.SignalAll();
                return true;
              }),
              absl::OkStatus());
  });
  {
    absl::MutexLock lock(&mu);
    EXPECT_FALSE(changed.AwaitFor(&mu, 100 * kMillisecond,
                                  [&] { return writing; }))
        << "before the drop was through";
  }
  files_->LetGo();
  drops.join();
  writes.join();
  Open();
  EXPECT_TRUE(tier_->Pin(kId).ok());
}

}  // namespace
}  // namespace forecache
