// Floors and ceilings of what tenants hold on SSD.
#include <gtest/gtest.h>

#include <algorithm>

#include "kvstore/ssd/testing/memory_disk.h"
#include "tests/kvstore/tenants/tenant_fixture.h"

namespace forecache {
namespace {

class SsdQuotaTest : public TenantFixture {
 protected:
  static constexpr int kSegments = 24;  // that the disk has room for
  static constexpr size_t kExtentBytes = size_t{64} << 10;
  static constexpr size_t kSegmentBytes = 3 * kExtentBytes;

  SsdQuotaTest() { Start(); }

  // What a new process does.
  void Start() {
    StoreOptions options;
    options.dram_bytes = size_t{4} << 20;
    options.ssd.tier.capacity_bytes = kSsdMetadataBytesMin +
                                      (size_t{64} << 10) +
                                      kSegments * kSegmentBytes;
    options.ssd.tier.extent_bytes = kExtentBytes;
    options.ssd.scrub_bytes_per_second = 0;
    options.ssd.background = false;
    store_ = nullptr;
    metrics_ = std::make_unique<Metrics>();
    store_ = *StoreCore::Create(options, &clock_, metrics_.get(),
                                NewMemoryDisk(files_));
  }
  static TenantConfig OnSsd(const std::string& name,
                            const TierQuota& ssd = {}) {
    TenantConfig config = TestTenant(name);
    config.quotas[int(StorageTier::kSsd)] = ssd;
    return config;
  }
  int SegmentsOf(const std::string& name) {
    const size_t held =
        store_->tenants().AccountOf(IdOf(name))->held(StorageTier::kSsd);
    EXPECT_EQ(held % kSegmentBytes, 0);
    return static_cast<int>(held / kSegmentBytes);
  }
  void Fill(const std::string& name, const TestContext& context) {
    clock_.Advance(kSecond);
    ASSERT_EQ(FillAs(IdOf(name), context), absl::OkStatus());
    while (store_->RunSsd()) {
    }
  }
  // Contexts that are used once, of one segment each.
  void Flood(const std::string& name, int contexts) {
    for (int i = 0; i < contexts; ++i) Fill(name, TestContext(seed_++, 1));
  }

  std::shared_ptr<MemoryFiles> files_ = std::make_shared<MemoryFiles>();
  uint64_t seed_ = 1000;
};

TEST_F(SsdQuotaTest, AFloodStopsAtAnothersFloorAndARestartKnowsIt) {
  const std::vector<TenantConfig> tenants = {
      OnSsd("quiet", {.floor_bytes = 6 * kSegmentBytes}), OnSsd("loud")};
  Configure(tenants);
  const TestContext kept(1, 6);
  Fill("quiet", kept);
  Flood("loud", 60);
  EXPECT_EQ(SegmentsOf("quiet"), 6);
  EXPECT_EQ(SegmentsOf("loud"), kSegments - 6);
  Start();
  EXPECT_EQ(SegmentsOf("quiet"), 6);
  EXPECT_EQ(SegmentsOf("loud"), kSegments - 6);
  Configure(tenants);
  EXPECT_EQ(CachedFor(IdOf("quiet"), kept), 6 * kSegmentTokens);
  Flood("loud", 30);
  EXPECT_EQ(SegmentsOf("quiet"), 6);
}

// The same flood where there is no floor: so the floor is what held it.
TEST_F(SsdQuotaTest, WithoutAFloorAFloodTakesMore) {
  Configure({OnSsd("quiet"), OnSsd("loud")});
  Fill("quiet", TestContext(1, 6));
  clock_.Advance(3600 * kSecond);
  Flood("loud", 60);
  EXPECT_LT(SegmentsOf("quiet"), 6);
}

TEST_F(SsdQuotaTest, AtItsCeilingATenantGivesUpItsOwn) {
  Configure({OnSsd("small", {.ceiling_bytes = 4 * kSegmentBytes}),
             OnSsd("other")});
  Flood("other", 3);
  for (int i = 0; i < 10; ++i) {
    Flood("small", 1);
    EXPECT_EQ(SegmentsOf("small"), std::min(i + 1, 4));
  }
  EXPECT_EQ(SegmentsOf("other"), 3);
  // The last of them is there, and outlives the process.
  const TestContext last(seed_ - 1, 1);
  Start();
  Configure({OnSsd("small", {.ceiling_bytes = 4 * kSegmentBytes}),
             OnSsd("other")});
  EXPECT_EQ(SegmentsOf("small"), 4);
  EXPECT_EQ(CachedFor(IdOf("small"), last), kSegmentTokens);
  EXPECT_EQ(CachedFor(IdOf("other"), last), 0);
}

TEST_F(SsdQuotaTest, ACeilingTooSmallForASegmentKeepsItInMemory) {
  Configure({OnSsd("tiny", {.ceiling_bytes = kSegmentBytes - 1})});
  const TestContext context(1, 1);
  Fill("tiny", context);
  EXPECT_EQ(SegmentsOf("tiny"), 0);
  EXPECT_EQ(store_->metrics().demotions_failed->Value(), 1);
  EXPECT_TRUE(store_->Occupancy().ssd_writable);
  EXPECT_EQ(CachedFor(IdOf("tiny"), context), kSegmentTokens);
}

}  // namespace
}  // namespace forecache
