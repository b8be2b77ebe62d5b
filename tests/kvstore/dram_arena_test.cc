#include "kvstore/dram_arena.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <vector>

#include "common/rng.h"

namespace forecache {
namespace {

constexpr size_t kPage = DramArena::kPageBytes;

TEST(DramArenaTest, RoundsToPagesAndCounts) {
  auto arena = *DramArena::Create(10 * kPage + 5);
  EXPECT_EQ(arena->capacity_bytes(), 10 * kPage);
  auto extent = arena->Allocate(1);
  ASSERT_TRUE(extent.ok());
  EXPECT_EQ(extent->bytes, kPage);
  EXPECT_EQ(arena->used_bytes(), kPage);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(arena->At(*extent)) % kPage, 0);
  arena->Free(*extent);
  EXPECT_EQ(arena->used_bytes(), 0);
}

TEST(DramArenaTest, RefusesWhatDoesNotFit) {
  auto arena = *DramArena::Create(4 * kPage);
  EXPECT_TRUE(absl::IsResourceExhausted(
      arena->Allocate(4 * kPage + 1).status()));
  EXPECT_TRUE(
      absl::IsResourceExhausted(arena->Allocate(SIZE_MAX).status()));
  auto all = arena->Allocate(4 * kPage);
  ASSERT_TRUE(all.ok());
  EXPECT_TRUE(absl::IsResourceExhausted(arena->Allocate(1).status()));
  arena->Free(*all);
  EXPECT_FALSE(DramArena::Create(0).ok());
}

size_t ResidentPages(const DramArena& arena) {
  std::vector<unsigned char> pages(arena.capacity_bytes() / kPage);
  EXPECT_EQ(mincore(arena.bytes().data(), arena.capacity_bytes(), pages.data()),
            0);
  return std::count_if(pages.begin(), pages.end(),
                       [](unsigned char page) { return (page & 1) != 0; });
}

TEST(DramArenaTest, PrefaultTakesEveryPage) {
  auto arena = *DramArena::Create(1000 * kPage);
  EXPECT_EQ(ResidentPages(*arena), 0);
  arena->Prefault();
  EXPECT_EQ(ResidentPages(*arena), 1000);
}

TEST(DramArenaTest, TakesTheBestFit) {
  auto arena = *DramArena::Create(10 * kPage);
  std::vector<Extent> extents;
  for (size_t pages : {3, 1, 2, 1, 3}) {
    extents.push_back(*arena->Allocate(pages * kPage));
  }
  arena->Free(extents[0]);
  arena->Free(extents[2]);
  EXPECT_EQ(arena->Allocate(2 * kPage)->offset, extents[2].offset);
  EXPECT_EQ(arena->Allocate(2 * kPage)->offset, extents[0].offset);
  for (int i : {1, 3, 4}) arena->Free(extents[i]);
  arena->Free(extents[2]);
  arena->Free({extents[0].offset, 2 * kPage});
}

TEST(DramArenaTest, RandomUseEndsWhole) {
  auto arena = *DramArena::Create(256 * kPage);
  Rng rng(1);
  std::vector<Extent> held;
  size_t used = 0;
  for (int step = 0; step < 5000; ++step) {
    if (rng.Below(2) == 0 || held.empty()) {
      auto extent = arena->Allocate(1 + rng.Below(20 * kPage));
      if (!extent.ok()) continue;
      for (const Extent& other : held) {
        ASSERT_TRUE(other.offset + other.bytes <= extent->offset ||
                    extent->offset + extent->bytes <= other.offset);
      }
      held.push_back(*extent);
      used += extent->bytes;
    } else {
      size_t i = rng.Below(held.size());
      used -= held[i].bytes;
      arena->Free(held[i]);
      held[i] = held.back();
      held.pop_back();
    }
    ASSERT_EQ(arena->used_bytes(), used);
  }
  for (const Extent& extent : held) arena->Free(extent);
  EXPECT_EQ(arena->largest_free_bytes(), arena->capacity_bytes());
}

TEST(DramArenaDeathTest, FreeingTwiceIsABug) {
  auto arena = *DramArena::Create(4 * kPage);
  Extent extent = *arena->Allocate(kPage);
  Extent other = *arena->Allocate(kPage);
  arena->Free(extent);
  EXPECT_DEATH(arena->Free(extent), "freed twice");
  arena->Free(other);
}

}  // namespace
}  // namespace forecache
