#include "worker/arena.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>

namespace forecache {
namespace {

constexpr KvGeometry kGeometry{
    .layers = 1, .kv_heads = 1, .head_dim = 32, .group = 1};

std::unique_ptr<HostArena> MakeArena(int slots) {
  auto arena = HostArena::Create(kGeometry, slots);
  EXPECT_TRUE(arena.ok()) << arena.status();
  return *std::move(arena);
}

TEST(HostArenaTest, GivesEverySlotOnce) {
  const auto arena = MakeArena(5);
  std::set<int32_t> slots;
  for (int i = 0; i < 5; ++i) slots.insert(arena->Allocate()->slot);
  EXPECT_EQ(slots, (std::set<int32_t>{0, 1, 2, 3, 4}));
  const auto full = arena->Allocate();
  EXPECT_TRUE(absl::IsResourceExhausted(full.status()));
  EXPECT_NE(full.status().message().find("5 slots"), std::string::npos);
}

TEST(HostArenaTest, GenerationTellsReuse) {
  const auto arena = MakeArena(1);
  const SlotLease first = *arena->Allocate();
  arena->Free(first);
  const SlotLease second = *arena->Allocate();
  EXPECT_EQ(second.slot, first.slot);
  EXPECT_NE(second.generation, first.generation);
}

TEST(HostArenaDeathTest, FreeingTwiceIsABug) {
  const auto arena = MakeArena(1);
  const SlotLease lease = *arena->Allocate();
  arena->Free(lease);
  EXPECT_DEATH(arena->Free(lease), "not held");
}

TEST(HostArenaTest, RefusesNoSlots) {
  EXPECT_TRUE(
      absl::IsInvalidArgument(HostArena::Create(kGeometry, 0).status()));
}

TEST(HostArenaTest, TokensLandWhereTheKernelsLook) {
  const auto arena = MakeArena(2);
  const int32_t slot = 1;
  float k[64], v[64];
  for (int i = 0; i < 64; ++i) {
    k[i] = static_cast<float>(i);
    v[i] = static_cast<float>(-i);
  }
  arena->WriteTokens(slot, 3, 2, k, v, 32);
  const SlotMemory memory = arena->memory();
  const auto* keys = reinterpret_cast<const uint16_t*>(
      memory.base + slot * memory.slot_stride);
  const auto* values = reinterpret_cast<const uint16_t*>(
      memory.base + slot * memory.slot_stride + memory.v_offset);
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(F16ToFloat(keys[3 * 32 + i]), k[i]);
    EXPECT_EQ(F16ToFloat(values[3 * 32 + i]), v[i]);
  }
}

}  // namespace
}  // namespace forecache
