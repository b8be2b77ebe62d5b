#include "kvstore/scan_pool.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "common/limits.h"
#include "common/rng.h"
#include "kvstore/tenant_turns.h"
#include "tests/kvstore/store_fixture.h"

namespace forecache {
namespace {

constexpr int kBlocks = 40;  // two sealed segments, and a part of an open one

class ScanPoolTest : public StoreFixture {
 protected:
  ScanPoolTest() : context_(4, 3) {
    const NewSession opened = Open(context_);
    FC_CHECK_OK(PutAndSeal(opened.id, context_, 0));
    FC_CHECK_OK(PutAndSeal(opened.id, context_, 1));
    for (int layer = 0; layer < kTestGeometry.layers; ++layer) {
      FC_CHECK_OK(Put(opened.id, context_, layer, 32, kBlocks - 32));
    }
    session_ = *store_->Snapshot(opened.id);
    Rng rng(5);
    q_.resize(kTestGeometry.kv_heads * kTestGeometry.group *
              kTestGeometry.head_dim);
    for (float& x : q_) x = rng.Normal();
    request_ = {1, kBlocks, 1 / std::sqrt(32.0f), q_};
  }

  std::vector<std::byte> Reply() const {
    return std::vector<std::byte>(ProbeReplyBytes(kTestGeometry, kBlocks));
  }
  // Submits the heads of a probe; false when the pool has no job for one.
  bool Submit(ScanPool* pool, MutableBytes reply, int head) {
    ScanJob* job = pool->TakeFree(/*urgent=*/false);
    if (job == nullptr) return false;
    job->session = &session_;
    job->probe = &request_;
    job->correction = nullptr;
    job->head = head;
    job->reply = reply;
    pool->Submit(job);
    return true;
  }
  static ScanJob* AwaitDone(ScanPool* pool) {
    ScanJob* job = pool->TakeDone();
    while (job == nullptr) job = pool->TakeDone();
    return job;
  }

  const TestContext context_;
  SessionSnapshot session_;
  std::vector<float> q_;
  ProbeRequest request_;
};

TEST_F(ScanPoolTest, ThreadsScanAsTheOwnerWould) {
  std::vector<std::byte> want = Reply();
  ScanPool alone(0, ProbeSource::kCodes, Clock::Real(), [] {});
  for (int head = 0; head < kTestGeometry.kv_heads; ++head) {
    ASSERT_TRUE(Submit(&alone, want, head));
    alone.Return(AwaitDone(&alone));
  }
  std::atomic<int> wakes{0};
  std::vector<std::vector<std::byte>> got(50, Reply());
  {
    ScanPool pool(2, ProbeSource::kCodes, Clock::Real(), [&] { ++wakes; });
    int done = 0, submitted = 0;
    const int all = static_cast<int>(got.size()) * kTestGeometry.kv_heads;
    while (done < all) {
      while (submitted < all &&
             Submit(&pool, got[submitted / kTestGeometry.kv_heads],
                    submitted % kTestGeometry.kv_heads)) {
        ++submitted;
      }
      ScanJob* job = AwaitDone(&pool);
      EXPECT_GT(job->covered, 0u);
      pool.Return(job);
      ++done;
    }
  }
  EXPECT_EQ(wakes, 50 * kTestGeometry.kv_heads);
  for (const auto& reply : got) EXPECT_TRUE(std::ranges::equal(reply, want));
}

TEST_F(ScanPoolTest, BulkLeavesJobsToWhatIsUrgent) {
  ScanPool pool(0, ProbeSource::kCodes, Clock::Real(), [] {});
  ASSERT_NE(pool.TakeFree(false), nullptr);
  EXPECT_EQ(pool.TakeFree(false), nullptr);
  ScanJob* urgent = pool.TakeFree(true);
  ASSERT_NE(urgent, nullptr);
  pool.Return(urgent);
  EXPECT_EQ(pool.TakeFree(false), nullptr);
  while (pool.TakeFree(true) != nullptr) {
  }
}

TEST_F(ScanPoolTest, GoesWhileThereIsWork) {
  std::vector<std::byte> reply = Reply();
  ScanPool pool(1, ProbeSource::kCodes, Clock::Real(), [] {});
  while (Submit(&pool, reply, 0)) {
  }
}

TEST(TenantTurnsTest, FollowTheShares) {
  TenantTurns turns;
  int taken[3] = {};
  for (int i = 0; i < 600; ++i) {
    int next = 0;
    for (int tenant : {1, 2}) {
      if (turns.Used(tenant) < turns.Used(next)) next = tenant;
    }
    turns.Charge(next, 10, next + 1);
    ++taken[next];
  }
  EXPECT_NEAR(taken[0], 100, 2);
  EXPECT_NEAR(taken[1], 200, 2);
  EXPECT_NEAR(taken[2], 300, 2);
}

TEST(TenantTurnsTest, NobodySavesUp) {
  TenantTurns turns;
  for (int i = 0; i < 1000; ++i) turns.Charge(1, 10, 1);
  int first = 0;
  for (int i = 0; i < 20; ++i) {
    const uint32_t next = turns.Used(2) <= turns.Used(1) ? 2 : 1;
    turns.Charge(next, 10, 1);
    first += next == 2;
  }
  EXPECT_NEAR(first, 10, 1);
}

}  // namespace
}  // namespace forecache
