#include "worker/resident_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "common/crc32c.h"
#include "common/rng.h"

namespace forecache {
namespace {

constexpr KvGeometry kGeometry{
    .layers = 2, .kv_heads = 2, .head_dim = 16, .group = 3};

class ResidentCacheTest : public ::testing::Test {
 protected:
  ResidentCacheTest() {
    auto arena = HostArena::Create(kGeometry, 24);
    EXPECT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    cache_ = std::make_unique<ResidentCache>(kGeometry, arena_.get());
  }

  std::vector<wire::FetchEntry> Retarget(std::vector<int32_t> wanted) {
    std::vector<wire::FetchEntry> missing;
    EXPECT_TRUE(cache_->Retarget(0, 0, wanted, &missing).ok());
    return missing;
  }

  // The push that answers `entry`, with bytes that are right or damaged.
  bool Push(const wire::FetchEntry& entry, bool damaged = false) {
    std::vector<std::byte> part(kGeometry.PartBytes(),
                                std::byte(entry.block));
    wire::PushEntry push{.block = entry.block,
                         .kv_head = entry.kv_head,
                         .slot = entry.slot,
                         .generation = entry.generation};
    push.checksums = {Crc32c(part), Crc32c(part)};
    if (damaged) part[0] ^= std::byte{1};
    return cache_->Fill(0, push, part, part);
  }

  // The store puts `block` into an offered place of KV head 0.
  bool PushOffered(const wire::OfferedSlot& slot, uint32_t block) {
    std::vector<std::byte> part(kGeometry.PartBytes(), std::byte(block));
    return cache_->FillOffered(0,
                               {.block = block,
                                .slot = slot.slot,
                                .generation = slot.generation,
                                .checksums = {Crc32c(part), Crc32c(part)}},
                               part, part);
  }

  std::vector<int32_t> Ready() {
    std::vector<int32_t> blocks;
    cache_->ReadyBlocks(0, 0, &blocks);
    return blocks;
  }

  std::unique_ptr<HostArena> arena_;
  std::unique_ptr<ResidentCache> cache_;
};

TEST_F(ResidentCacheTest, AsksOnlyForWhatIsMissing) {
  for (const auto& entry : Retarget({1, 4, 9})) EXPECT_TRUE(Push(entry));
  EXPECT_EQ(Ready(), (std::vector<int32_t>{1, 4, 9}));
  const auto missing = Retarget({1, 5, 9});
  ASSERT_EQ(missing.size(), 1u);
  EXPECT_EQ(missing[0].block, 5u);
  EXPECT_EQ(Ready(), (std::vector<int32_t>{1, 9}));
  EXPECT_TRUE(Push(missing[0]));
  EXPECT_EQ(Ready(), (std::vector<int32_t>{1, 5, 9}));
}

TEST_F(ResidentCacheTest, NeverHoldsMoreThanItsTarget) {
  Retarget({0, 1, 2, 3});
  Retarget({4, 5, 6, 7});
  EXPECT_EQ(arena_->slots_in_use(), 4);
  EXPECT_EQ(cache_->peak_bytes(), 4 * kGeometry.BlockBytes());
}

TEST_F(ResidentCacheTest, LateBlockOfAReusedSlotIsRefused) {
  const auto first = Retarget({3});
  Retarget({8});  // 3 goes, 8 takes its slot
  EXPECT_FALSE(Push(first[0]));
  const auto again = Retarget({3});  // the same block, another generation
  EXPECT_NE(again[0].generation, first[0].generation);
  EXPECT_FALSE(Push(first[0]));
  EXPECT_TRUE(Push(again[0]));
  EXPECT_FALSE(Push(again[0])) << "a duplicate must change nothing";
}

TEST_F(ResidentCacheTest, LostBlockIsNotAskedForAgain) {
  const auto missing = Retarget({2, 3});
  cache_->MarkLost(0, missing[0]);
  EXPECT_TRUE(Push(missing[1]));
  EXPECT_TRUE(Retarget({2, 3}).empty());
  EXPECT_EQ(Ready(), (std::vector<int32_t>{3}));
}

TEST_F(ResidentCacheTest, AnOfferedPlaceTakesWhatTheStoreChooses) {
  for (const auto& entry : Retarget({1, 6})) EXPECT_TRUE(Push(entry));
  std::vector<wire::OfferedSlot> slots;
  ASSERT_TRUE(cache_->Offer(0, 0, 3, &slots).ok());
  ASSERT_EQ(slots.size(), 3u);
  EXPECT_EQ(Ready(), (std::vector<int32_t>{1, 6}));
  EXPECT_TRUE(PushOffered(slots[0], 9));
  EXPECT_TRUE(PushOffered(slots[1], 4));
  EXPECT_EQ(Ready(), (std::vector<int32_t>{1, 4, 6, 9}));
  EXPECT_EQ(cache_->Audit(), 0);
  cache_->TakeBack(0, 0, slots[2]);
  EXPECT_FALSE(PushOffered(slots[2], 5)) << "the place was taken back";
  EXPECT_FALSE(PushOffered(slots[0], 5)) << "the place is taken";
  EXPECT_TRUE(Retarget({1, 9}).empty()) << "a corrected block may stay";
  EXPECT_EQ(Ready(), (std::vector<int32_t>{1, 9}));
}

TEST_F(ResidentCacheTest, AnOfferedPlaceIsGivenBackWhenItsBlockIsHeld) {
  std::vector<wire::OfferedSlot> slots;
  ASSERT_TRUE(cache_->Offer(0, 0, 1, &slots).ok());
  const auto missing = Retarget({3});
  const size_t bytes = cache_->bytes();
  EXPECT_FALSE(PushOffered(slots[0], 3));
  EXPECT_LT(cache_->bytes(), bytes);
  EXPECT_TRUE(Push(missing[0]));
  EXPECT_EQ(Ready(), (std::vector<int32_t>{3}));
}

TEST_F(ResidentCacheTest, AuditFindsDamage) {
  const auto missing = Retarget({2, 3});
  EXPECT_TRUE(Push(missing[0]));
  EXPECT_EQ(cache_->Audit(), 0);
  EXPECT_TRUE(Push(missing[1], /*damaged=*/true));
  EXPECT_EQ(cache_->Audit(), 1);
}

TEST_F(ResidentCacheTest, AppendedTokensCloseIntoAPage) {
  Rng rng(7);
  std::vector<float> k(2 * 16), v(2 * 16);
  for (int position = 32; position < 48; ++position) {
    for (float& x : k) x = rng.Normal();
    for (float& x : v) x = rng.Normal();
    ASSERT_TRUE(cache_->Append(0, position, k.data(), v.data()).ok());
    LayerTables tables;
    cache_->BuildTables(0, &tables);
    ASSERT_EQ(tables.tables[1].pages, 1);
    EXPECT_EQ(tables.tables[1].last_page_tokens, position - 31);
    EXPECT_EQ(tables.blocks[1][0], 2);
  }
  const auto* last = reinterpret_cast<const uint16_t*>(
      arena_->ReadBlock(cache_->CloseOpenBlock(0)[1]).data());
  EXPECT_EQ(last[15 * 16 + 3], FloatToF16(k[16 + 3]));
  EXPECT_EQ(Ready(), (std::vector<int32_t>{2}));
}

TEST_F(ResidentCacheTest, TablesLeaveOutWhatHasNotCome) {
  const auto missing = Retarget({1, 2, 3});
  EXPECT_TRUE(Push(missing[1]));
  LayerTables tables;
  cache_->BuildTables(0, &tables);
  EXPECT_EQ(tables.tables[0].pages, 1);
  EXPECT_EQ(tables.blocks[0][0], 2);
  EXPECT_EQ(tables.tables[0].last_page_tokens, kBlockTokens);
  EXPECT_EQ(tables.tables[1].pages, 0);
}

TEST_F(ResidentCacheTest, FullArenaIsATypedError) {
  std::vector<int32_t> wanted;
  for (int32_t block = 0; block < 25; ++block) wanted.push_back(block);
  std::vector<wire::FetchEntry> missing;
  const absl::Status status = cache_->Retarget(0, 0, wanted, &missing);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  cache_.reset();
  EXPECT_EQ(arena_->slots_in_use(), 0);
}

}  // namespace
}  // namespace forecache
