// What several threads do to the tier at once.
#include "kvstore/ssd/ssd_tier.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "common/monotonic_cond.h"
#include "tests/kvstore/ssd_tier_fixture.h"

namespace forecache {
namespace {

constexpr SegmentId kId{{1}};

using SsdTierTest = SsdTierFixture;

// Its record would be the one that goes: found until a restart, then lost.
TEST_F(SsdTierTest, AWriteWaitsForTheDropOfTheSameSegment) {
  Open();
  const auto segment = Sealed();
  ASSERT_EQ(tier_->Write(kId, {}, *segment, Always), absl::OkStatus());
  const int64_t step = files_->steps();
  files_->HoldStep(step);
  std::thread drops([&] { EXPECT_EQ(tier_->Drop(kId), absl::OkStatus()); });
  while (files_->steps() == step) std::this_thread::yield();
  absl::Mutex mu;
  MonotonicCond changed;
  bool writing = false;
  std::thread writes([&] {
    EXPECT_EQ(tier_->Write(kId, {}, *segment,
                           [&](size_t) {
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
