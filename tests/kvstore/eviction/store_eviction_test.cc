// A store under pressure keeps its promises whatever policy it has.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "tests/kvstore/store_fixture.h"

namespace forecache {
namespace {

class StoreEvictionTest : public StoreFixture,
                          public ::testing::WithParamInterface<std::string> {
 protected:
  void MakeStoreOf(size_t segments) {
    StoreOptions options;
    options.dram_bytes = segments * SealedBytes();
    options.eviction = GetParam();
    options.tenant_secret = TenantSecret::FromPhrase("test");
    store_ = nullptr;
    metrics_ = std::make_unique<Metrics>();
    store_ = *StoreCore::Create(options, &clock_, metrics_.get());
  }
};

TEST_P(StoreEvictionTest, PinnedSegmentsOutliveAFlood) {
  MakeStoreOf(6);
  TestContext kept(1, 2);
  Fill(kept);
  NewSession reader = Open(kept);
  ASSERT_EQ(reader.cached_tokens, 2 * kSegmentTokens);
  for (int i = 0; i < 12; ++i) {
    clock_.Advance(20 * kSecond);
    Fill(TestContext(100 + i, 1 + i % 3));
    ASSERT_EQ(Cached(kept), 2 * kSegmentTokens);
    ASSERT_LE(store_->Occupancy().dram_bytes, 6 * SealedBytes());
  }
  EXPECT_GT(store_->metrics().segments_evicted->Value(), 10);
  store_->CloseSession(reader.id);
}

TEST_P(StoreEvictionTest, PrefixesShrinkFromTheirEnds) {
  MakeStoreOf(6);
  TestContext context(1, 5);
  Fill(context);
  int before = Cached(context);
  ASSERT_EQ(before, 5 * kSegmentTokens);
  for (int i = 0; i < 8; ++i) {
    clock_.Advance(20 * kSecond);
    Fill(TestContext(200 + i, 1));
    // All that is held of it is a prefix: no segment lies behind a gap.
    const int now = Cached(context);
    ASSERT_LE(now, before);
    before = now;
  }
  EXPECT_EQ(store_->Occupancy().segments, 6);
}

INSTANTIATE_TEST_SUITE_P(All, StoreEvictionTest,
                         ::testing::ValuesIn(EvictionPolicyNames()),
                         [](const auto& info) { return info.param; });

TEST(StoreOptionsTest, RefusesAPolicyItDoesNotHave) {
  FakeClock clock;
  Metrics metrics;
  StoreOptions options;
  options.eviction = "fifo";
  EXPECT_EQ(StoreCore::Create(options, &clock, &metrics).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace forecache
