// The machine stops, or the disk fails, at every step of a store's life.
#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "tests/kvstore/ssd_fixture.h"

namespace forecache {
namespace {

constexpr int64_t kForever = std::numeric_limits<int64_t>::max() / 2;

class CrashTest : public SsdStoreFixture {
 protected:
  CrashTest() {
    for (int i = 0; i < 4; ++i) contexts_.emplace_back(50 + i, 2);
  }

  // A process's life: fills contexts one after the other, and reads one.
  // *durable gets how many segments of each were acknowledged as durable.
  // Returns whether the process came to its end.
  bool Live(const StoreOptions& options, std::map<int, int>* durable) {
    if (!TryStart(options).ok()) return false;
    for (int i = 0; i < 4; ++i) {
      NewSession session = Open(contexts_[i]);
      for (int segment = 0; segment < 2; ++segment) {
        EXPECT_EQ(PutSegment(session.id, contexts_[i], segment),
                  absl::OkStatus());
        auto sealed = store_->SealSegment(session.id, segment,
                                          contexts_[i].SegmentTokens(segment));
        EXPECT_TRUE(sealed.ok());
        RunAll();
        if (store_->AwaitDurable(sealed->id)) (*durable)[i] = segment + 1;
      }
      store_->CloseSession(session.id);
    }
    // What is in memory is served whatever the disk does.
    for (const TestContext& context : contexts_) {
      EXPECT_EQ(ReadBack(context), 2 * kSegmentTokens);
    }
    return true;
  }

  void CutPower(int64_t step, uint64_t seed, const StoreOptions& options,
                bool evicts) {
    files_ = std::make_shared<MemoryFiles>();
    files_->FailSteps(step, kForever, absl::UnavailableError("power is cut"));
    std::map<int, int> durable;
    Live(options, &durable);
    store_ = nullptr;
    files_->Crash(seed);
    Start(options);
    for (int i = 0; i < 4; ++i) {
      const int tokens = ReadBack(contexts_[i]);
      EXPECT_GE(tokens, 0) << "torn blocks of context " << i;
      if (!evicts) {
        EXPECT_GE(tokens, durable[i] * kSegmentTokens) << "context " << i;
      }
    }
    // It is as good as new.
    for (const TestContext& context : contexts_) {
      Fill(context);
      RunAll();
      EXPECT_EQ(ReadBack(context), 2 * kSegmentTokens);
    }
  }

  // Steps of a life without faults.
  int64_t Steps(const StoreOptions& options) {
    files_ = std::make_shared<MemoryFiles>();
    std::map<int, int> durable;
    EXPECT_TRUE(Live(options, &durable));
    for (int i = 0; i < 4; ++i) EXPECT_GE(durable[i], 1) << i;
    store_ = nullptr;
    return files_->steps();
  }

  static StoreOptions SmallSsd() {
    StoreOptions options = Options();
    options.ssd.tier.capacity_bytes =
        kSsdMetadataBytesMin + (size_t{64} << 10) + 14 * kExtentBytes;
    return options;
  }

  std::vector<TestContext> contexts_;
};

TEST_F(CrashTest, PowerIsCutAtEveryStep) {
  const int64_t steps = Steps(Options());
  ASSERT_GT(steps, 50);
  for (int64_t step = 0; step <= steps; ++step) {
    SCOPED_TRACE(step);
    CutPower(step, /*seed=*/static_cast<uint64_t>(step % 3), Options(), false);
    if (HasFailure()) break;
  }
}

TEST_F(CrashTest, PowerIsCutAtEveryStepWhileSegmentsMakeRoom) {
  const int64_t steps = Steps(SmallSsd());
  ASSERT_GT(steps, 50);
  for (int64_t step = 0; step <= steps; ++step) {
    SCOPED_TRACE(step);
    CutPower(step, static_cast<uint64_t>(step % 3), SmallSsd(), true);
    if (HasFailure()) break;
  }
}

// One step fails; the process goes on in memory, and the next one finds all
// that was acknowledged.
class DiskErrorTest : public CrashTest,
                      public ::testing::WithParamInterface<absl::StatusCode> {
};

TEST_P(DiskErrorTest, OneStepFails) {
  const int64_t steps = Steps(Options());
  int refused = 0, degraded = 0;
  for (int64_t step = 0; step <= steps; ++step) {
    SCOPED_TRACE(step);
    files_ = std::make_shared<MemoryFiles>();
    files_->FailSteps(step, 1, absl::Status(GetParam(), "injected"));
    std::map<int, int> durable;
    if (Live(Options(), &durable)) {
      degraded += !store_->Occupancy().ssd_writable;
    } else {
      ++refused;
    }
    store_ = nullptr;
    files_->FailSteps(0, 0, absl::OkStatus());
    Start();
    for (int i = 0; i < 4; ++i) {
      EXPECT_GE(ReadBack(contexts_[i]), durable[i] * kSegmentTokens) << i;
    }
    if (HasFailure()) break;
  }
  // A start that cannot write says so; later errors turn the tier off.
  EXPECT_GT(refused, 0);
  EXPECT_GT(degraded, 20);
}

// The disk fails from some step on, for a while.  The tier goes off, is tried
// again, comes back when the disk is well, and writes; then the power is cut.
TEST_P(DiskErrorTest, TheTierComesBack) {
  const std::vector<TestContext> later = {TestContext(60, 2),
                                          TestContext(61, 2)};
  const StoreOptions options = SmallSsd();
  const int64_t steps = Steps(options);
  int came_back = 0, tries = 0;
  for (int64_t step = 0; step <= steps; ++step) {
    SCOPED_TRACE(step);
    files_ = std::make_shared<MemoryFiles>();
    // Long enough to meet tries as well.
    files_->FailSteps(step, 1 + step % 30,
                      absl::Status(GetParam(), "injected"));
    std::map<int, int> durable;
    if (!Live(options, &durable)) continue;
    came_back += !store_->Occupancy().ssd_writable;
    for (int i = 0; i < 40 && !store_->Occupancy().ssd_writable; ++i) {
      clock_.Advance(kSsdReviveWaitMost);
      RunAll();
      ++tries;
    }
    EXPECT_TRUE(store_->Occupancy().ssd_writable);
    files_->FailSteps(0, 0, absl::OkStatus());
    for (const TestContext& context : later) {
      Fill(context);
      RunAll();
    }
    const size_t on_ssd = store_->Occupancy().ssd_segments;
    // The last ones were written, whatever made room for them.
    EXPECT_GE(on_ssd, 2);
    store_ = nullptr;
    files_->Crash(static_cast<uint64_t>(step % 3));
    Start(options);
    // No extent has two owners, and nothing that was durable is gone: what was
    // not synced of deletions may have come back.
    EXPECT_GE(store_->Occupancy().ssd_segments, on_ssd);
    EXPECT_EQ(ReadBack(later.back()), 2 * kSegmentTokens);
    for (const TestContext& context : contexts_) {
      EXPECT_GE(ReadBack(context), 0);
    }
    if (HasFailure()) break;
  }
  EXPECT_GT(came_back, 20);
  EXPECT_GT(tries, came_back);  // some tries failed
}

INSTANTIATE_TEST_SUITE_P(Errors, DiskErrorTest,
                         ::testing::Values(absl::StatusCode::kResourceExhausted,
                                           absl::StatusCode::kUnavailable),
                         [](const auto& info) {
                           return info.param == absl::StatusCode::kUnavailable
                                      ? "Eio"
                                      : "Enospc";
                         });

}  // namespace
}  // namespace forecache
