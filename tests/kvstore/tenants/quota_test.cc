// Floors and ceilings under floods.
#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "tests/kvstore/tenants/tenant_fixture.h"

namespace forecache {
namespace {

// By policy: none of them can take what a floor keeps.
class QuotaTest : public TenantFixture,
                  public ::testing::WithParamInterface<std::string> {
 protected:
  static constexpr int kSegments = 24;  // that the store has room for

  QuotaTest() {
    StoreOptions options;
    options.dram_bytes = kSegments * SealedBytes();
    options.eviction = GetParam();
    store_ = nullptr;
    metrics_ = std::make_unique<Metrics>();
    store_ = *StoreCore::Create(options, &clock_, metrics_.get());
  }
  int SegmentsOf(const std::string& name) {
    EXPECT_EQ(HeldBy(name) % SealedBytes(), 0);
    return static_cast<int>(HeldBy(name) / SealedBytes());
  }
  // Contexts that are used once, of one segment each.
  void Flood(const std::string& name, int contexts) {
    for (int i = 0; i < contexts; ++i) {
      clock_.Advance(kSecond);
      ASSERT_EQ(FillAs(IdOf(name), TestContext(seed_++, 1)),
                absl::OkStatus());
    }
  }
  uint64_t seed_ = 1000;
};

TEST_P(QuotaTest, AFloodStopsAtAnothersFloor) {
  Configure({TestTenant("quiet", {.floor_bytes = 6 * SealedBytes()}),
             TestTenant("loud")});
  const TestContext kept(1, 6);
  ASSERT_EQ(FillAs(IdOf("quiet"), kept), absl::OkStatus());
  Flood("loud", 200);
  EXPECT_EQ(SegmentsOf("quiet"), 6);
  EXPECT_EQ(CachedFor(IdOf("quiet"), kept), 6 * kSegmentTokens);
  EXPECT_EQ(SegmentsOf("loud"), kSegments - 6);
}

// The same flood where there is no floor: so the floor is what held it.
TEST_P(QuotaTest, WithoutAFloorAFloodTakesMore) {
  Configure({TestTenant("quiet"), TestTenant("loud")});
  const TestContext kept(1, 6);
  ASSERT_EQ(FillAs(IdOf("quiet"), kept), absl::OkStatus());
  clock_.Advance(3600 * kSecond);
  Flood("loud", 200);
  EXPECT_LT(SegmentsOf("quiet"), 6);
}

TEST_P(QuotaTest, AboveItsFloorATenantMayLose) {
  Configure({TestTenant("quiet", {.floor_bytes = 2 * SealedBytes() + 1}),
             TestTenant("loud", {.floor_bytes = 15 * SealedBytes()})});
  ASSERT_EQ(FillAs(IdOf("quiet"), TestContext(1, 10)), absl::OkStatus());
  clock_.Advance(3600 * kSecond);
  Flood("loud", 15);
  EXPECT_EQ(SegmentsOf("loud"), 15);  // its floor is its due
  Flood("loud", 100);
  EXPECT_GE(SegmentsOf("quiet"), 3);  // two would be below
  EXPECT_EQ(SegmentsOf("quiet") + SegmentsOf("loud"), kSegments);
}

TEST_P(QuotaTest, AtItsCeilingATenantEvictsItsOwn) {
  Configure({TestTenant("small", {.ceiling_bytes = 4 * SealedBytes()}),
             TestTenant("other")});
  const TestContext kept(1, 5);
  ASSERT_EQ(FillAs(IdOf("other"), kept), absl::OkStatus());
  Flood("small", 50);
  EXPECT_EQ(SegmentsOf("small"), 4);
  EXPECT_EQ(CachedFor(IdOf("other"), kept), 5 * kSegmentTokens);
  // Pinned up to the ceiling, it is told so, by name; others go on.
  auto session = OpenAs({.tenant = IdOf("small")}, TestContext(2, 5));
  const absl::Status full =
      FillSession(*session, IdOf("small"), TestContext(2, 5));
  EXPECT_TRUE(absl::IsResourceExhausted(full)) << full;
  EXPECT_NE(full.message().find("tenant small"), std::string::npos) << full;
  EXPECT_NE(full.message().find(absl::StrCat(4 * SealedBytes())),
            std::string::npos);
  Flood("other", 3);
}

TEST_P(QuotaTest, ALoweredCeilingGivesBackFirst) {
  Configure({TestTenant("a"), TestTenant("b")});
  Flood("a", 10);
  Flood("b", 10);
  Configure({TestTenant("a", {.ceiling_bytes = 3 * SealedBytes()}),
             TestTenant("b")});
  Flood("b", 11);
  EXPECT_EQ(SegmentsOf("a"), 3);
  EXPECT_EQ(SegmentsOf("b"), kSegments - 3);
}

TEST_P(QuotaTest, EveryByteComesBack) {
  Configure({TestTenant("a"), TestTenant("b")});
  Flood("a", 30);
  Flood("b", 30);
  const TestContext open(7, 2);
  auto session = OpenAs({.tenant = IdOf("a")}, open);
  auto snapshot = store_->Snapshot(session->id, IdOf("a"));
  ASSERT_EQ(store_->PutBlocks(*snapshot, 0, 0, 1, open.PutPayload(0, 0, 1)),
            absl::OkStatus());
  EXPECT_EQ(HeldBy("a") + HeldBy("b"), store_->arena().used_bytes());
  *snapshot = {};
  store_->CloseSession(session->id, IdOf("a"));
  EXPECT_EQ(HeldBy("a") + HeldBy("b"), store_->arena().used_bytes());
}

INSTANTIATE_TEST_SUITE_P(All, QuotaTest,
                         ::testing::ValuesIn(EvictionPolicyNames()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace forecache
