// What every Tier keeps to.  A new one adds a line at the end.
#include "kvstore/tier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/metrics.h"
#include "kvstore/dram_tier.h"
#include "kvstore/ssd/ssd_tier.h"
#include "kvstore/ssd/testing/memory_disk.h"
#include "kvstore/ssd/uring_disk.h"
#include "tests/kvstore/context.h"

namespace forecache {
namespace {

struct TierCase {
  std::string name;
  // `arena` is where segments are built; a tier may keep them there.
  std::function<std::unique_ptr<Tier>(DramArena* arena)> make;
};

class TierTest : public ::testing::TestWithParam<TierCase> {
 protected:
  TierTest()
      : arena_(*DramArena::Create(size_t{8} << 20)),
        tier_(GetParam().make(arena_.get())) {}

  static SegmentId Id(uint8_t number) { return SegmentId{{number}}; }

  std::shared_ptr<Segment> Sealed(const TestContext& context) {
    return SealedSegment(context, 0, CodeKind::k2BitRotated, arena_.get());
  }

  // Reads one block; compares when it came.
  wire::BlockStatus Read(const SegmentView& view, const TestContext& context,
                         int layer, int head, int block) {
    const size_t part = context.geometry().PartBytes();
    std::vector<std::byte> bytes(2 * part);
    BlockRead read{head, block, bytes.data(), bytes.data() + part};
    view.Read(layer, {&read, 1});
    if (read.status == wire::BlockStatus::kOk) {
      EXPECT_TRUE(std::ranges::equal(ByteView(bytes).first(part),
                                     context.Part(layer, head, block, false)));
      EXPECT_TRUE(std::ranges::equal(ByteView(bytes).subspan(part),
                                     context.Part(layer, head, block, true)));
    }
    return read.status;
  }

  std::unique_ptr<DramArena> arena_;
  std::unique_ptr<Tier> tier_;
};

TEST_P(TierTest, GivesBackWhatWasPut) {
  TestContext context(1, 1);
  auto segment = Sealed(context);
  ASSERT_EQ(tier_->Put(Id(1), {}, segment), absl::OkStatus());
  EXPECT_EQ(tier_->segments(), 1);
  auto view = tier_->Pin(Id(1));
  ASSERT_TRUE(view.ok());
  EXPECT_EQ((*view)->geometry(), context.geometry());
  for (int layer : {0, 1}) {
    EXPECT_EQ((*view)->Present(layer), 0xFFFF);
    for (int block = 0; block < kSegmentBlocks; ++block) {
      EXPECT_EQ(Read(**view, context, layer, 1, block),
                wire::BlockStatus::kOk);
    }
    for (int head : {0, 1}) {
      const auto starts_with = [](ByteView bytes, ByteView start) {
        return !start.empty() && bytes.size() >= start.size() &&
               std::ranges::equal(bytes.first(start.size()), start);
      };
      EXPECT_TRUE(starts_with((*view)->CodePlane(layer, head),
                              segment->CodePlane(layer, head)));
      EXPECT_TRUE(starts_with((*view)->ValuePlane(layer, head),
                              segment->ValuePlane(layer, head)));
    }
    EXPECT_EQ((*view)->code_kind(), CodeKind::k2BitRotated);
  }
}

TEST_P(TierTest, MissesWhatIsNotThere) {
  EXPECT_TRUE(absl::IsNotFound(tier_->Pin(Id(1)).status()));
  EXPECT_TRUE(absl::IsNotFound(tier_->Drop(Id(1))));
  EXPECT_FALSE(tier_->IsPinned(Id(1)));
  EXPECT_EQ(tier_->segments(), 0);
  EXPECT_EQ(tier_->used_bytes(), 0);
}

TEST_P(TierTest, PutTwiceSaysSo) {
  TestContext context(2, 1);
  ASSERT_EQ(tier_->Put(Id(1), {}, Sealed(context)), absl::OkStatus());
  size_t used = tier_->used_bytes();
  EXPECT_TRUE(absl::IsAlreadyExists(tier_->Put(Id(1), {}, Sealed(context))));
  EXPECT_EQ(tier_->used_bytes(), used);
  EXPECT_EQ(tier_->segments(), 1);
}

TEST_P(TierTest, ManyReadsAtOnce) {
  TestContext context(3, 1);
  ASSERT_EQ(tier_->Put(Id(1), {}, Sealed(context)), absl::OkStatus());
  auto view = *tier_->Pin(Id(1));
  const size_t part = context.geometry().PartBytes();
  std::vector<std::byte> bytes(32 * part);
  std::vector<BlockRead> reads;
  for (int block = 0; block < 16; ++block) {
    std::byte* k = bytes.data() + block * 2 * part;
    reads.push_back({block % 2, block, k, k + part});
  }
  view->Read(1, reads);
  for (const BlockRead& read : reads) {
    ASSERT_EQ(read.status, wire::BlockStatus::kOk);
    EXPECT_TRUE(std::ranges::equal(
        ByteView(read.v, part),
        context.Part(1, read.kv_head, read.block, true)));
  }
}

TEST_P(TierTest, DamageIsSeen) {
  TestContext context(4, 1);
  ASSERT_EQ(tier_->Put(Id(1), {}, Sealed(context)), absl::OkStatus());
  auto view = *tier_->Pin(Id(1));
  for (bool value_part : {false, true}) {
    int block = value_part ? 5 : 6;
    ASSERT_EQ(view->CorruptForTest(1, 0, block, value_part, 3),
              absl::OkStatus());
    EXPECT_EQ(Read(*view, context, 1, 0, block), wire::BlockStatus::kDataLoss);
    EXPECT_EQ(Read(*view, context, 1, 1, block), wire::BlockStatus::kOk);
  }
}

TEST_P(TierTest, PinOutlivesDrop) {
  TestContext context(5, 1);
  ASSERT_EQ(tier_->Put(Id(1), {}, Sealed(context)), absl::OkStatus());
  EXPECT_FALSE(tier_->IsPinned(Id(1)));
  auto view = *tier_->Pin(Id(1));
  auto again = *tier_->Pin(Id(1));
  EXPECT_TRUE(tier_->IsPinned(Id(1)));
  EXPECT_EQ(tier_->Drop(Id(1)), absl::OkStatus());
  EXPECT_TRUE(absl::IsNotFound(tier_->Pin(Id(1)).status()));
  view = nullptr;
  EXPECT_GT(tier_->used_bytes(), 0);
  EXPECT_EQ(Read(*again, context, 0, 0, 9), wire::BlockStatus::kOk);
  // The same id may come back meanwhile.
  ASSERT_EQ(tier_->Put(Id(1), {}, Sealed(context)), absl::OkStatus());
  EXPECT_FALSE(tier_->IsPinned(Id(1)));
  again = nullptr;
  EXPECT_EQ(tier_->Drop(Id(1)), absl::OkStatus());
  EXPECT_EQ(tier_->used_bytes(), 0);
}

TEST_P(TierTest, CountsItsBytes) {
  TestContext context(6, 1);
  ASSERT_EQ(tier_->Put(Id(1), {}, Sealed(context)), absl::OkStatus());
  size_t one = tier_->used_bytes();
  EXPECT_GE(one, context.geometry().SegmentBytes());
  ASSERT_EQ(tier_->Put(Id(2), {}, Sealed(context)), absl::OkStatus());
  EXPECT_EQ(tier_->used_bytes(), 2 * one);
  EXPECT_LE(tier_->used_bytes(), tier_->capacity_bytes());
  EXPECT_EQ(tier_->Drop(Id(1)), absl::OkStatus());
  EXPECT_EQ(tier_->used_bytes(), one);
}

std::unique_ptr<Tier> MakeSsd(DramArena* arena, std::unique_ptr<Disk> disk) {
  static Metrics* metrics = new Metrics();
  auto tier = SsdTier::Open({.capacity_bytes = size_t{8} << 20,
                             .extent_bytes = size_t{64} << 10},
                            std::move(disk), arena, metrics);
  FC_CHECK_OK(tier.status());
  return *std::move(tier);
}

INSTANTIATE_TEST_SUITE_P(
    Tiers, TierTest,
    ::testing::Values(
        TierCase{"dram",
                 [](DramArena* arena) {
                   return std::make_unique<DramTier>(arena);
                 }},
        TierCase{"ssd_in_memory",
                 [](DramArena* arena) {
                   return MakeSsd(arena, NewMemoryDisk(
                                             std::make_shared<MemoryFiles>()));
                 }},
        TierCase{"ssd",
                 [](DramArena* arena) {
                   static int number = 0;
                   auto disk = OpenUringDisk(
                       absl::StrCat(std::getenv("TEST_TMPDIR"), "/tier",
                                    ++number));
                   FC_CHECK_OK(disk.status());
                   return MakeSsd(arena, *std::move(disk));
                 }}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace forecache
