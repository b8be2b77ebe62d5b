#include "predictor/budget_profile.h"

#include <cmath>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "common/crc32c.h"
#include "gtest/gtest.h"

namespace forecache {
namespace {

constexpr size_t kHeaderBytes = 5 * sizeof(uint32_t);

// The file of one layer with two KV heads: head 0 misses nothing from a half
// of the context on, head 1 needs all of it.
std::vector<std::byte> File() {
  const uint32_t words[] = {kBudgetProfileMagic, kBudgetProfileVersion, 1, 2,
                            3};
  const float numbers[] = {0, 0.5f, 1, 1, 0, 0, 1, 0.5f, 0};
  std::vector<std::byte> file(sizeof(words) + sizeof(numbers));
  std::memcpy(file.data(), words, sizeof(words));
  std::memcpy(file.data() + sizeof(words), numbers, sizeof(numbers));
  return file;
}

std::vector<std::byte> Sealed(std::vector<std::byte> file) {
  const uint32_t crc = Crc32c(file);
  const auto bytes = AsBytes(crc);
  file.insert(file.end(), bytes.begin(), bytes.end());
  return file;
}

absl::Status StatusOf(const std::vector<std::byte>& file) {
  return ParseBudgetProfile(file).status();
}

TEST(BudgetProfileTest, SharesOutWhereItHelpsMost) {
  const auto profile = ParseBudgetProfile(Sealed(File()));
  ASSERT_TRUE(profile.ok()) << profile.status();
  // Each block of head 0's first half takes off twice as much as head 1's.
  EXPECT_EQ(profile->ShareOut(20, 100, 0), (std::vector<int>{20, 0}));
  EXPECT_EQ(profile->ShareOut(60, 100, 0), (std::vector<int>{50, 10}));
  EXPECT_EQ(profile->ShareOut(20, 100, 5), (std::vector<int>{15, 5}));
}

TEST(BudgetProfileTest, TotalAndLeastHoldAtEveryLength) {
  const BudgetProfile& profile = BuiltinBudgetProfile();
  const int heads = profile.layers * profile.kv_heads;
  for (const int context : {1, 2, 15, 16, 17, 100, 464, 8192}) {
    for (const int mean : {0, 1, 7, 30}) {
      const std::vector<int> blocks =
          profile.ShareOut(heads * mean, context, std::min(mean, 2));
      const int sum = std::accumulate(blocks.begin(), blocks.end(), 0);
      EXPECT_LE(sum, heads * mean);
      if (context >= 30 * heads) EXPECT_EQ(sum, heads * mean);
      for (const int count : blocks) {
        EXPECT_GE(count, std::min(mean, 2));
        EXPECT_LE(count, std::max(context, 2));
      }
      EXPECT_EQ(blocks,
                profile.ShareOut(heads * mean, context, std::min(mean, 2)));
    }
  }
}

TEST(BudgetProfileTest, TheBuiltInOneIsOfTheBundledModel) {
  const BudgetProfile& profile = BuiltinBudgetProfile();
  EXPECT_EQ(profile.layers, 30);
  EXPECT_EQ(profile.kv_heads, 3);
  const size_t points = profile.shares.size();
  for (size_t i = 0; i < profile.missed.size(); ++i) {
    if (i % points > 0) EXPECT_LE(profile.missed[i], profile.missed[i - 1]);
  }
}

TEST(BudgetProfileTest, WhatIsDamagedIsRefusedAndNamed) {
  const std::vector<std::byte> good = Sealed(File());
  for (size_t size = 0; size < good.size(); ++size) {
    const auto status =
        StatusOf({good.begin(), good.begin() + static_cast<long>(size)});
    EXPECT_FALSE(status.ok()) << size;
  }
  for (size_t i = kHeaderBytes; i < good.size(); ++i) {
    auto flipped = good;
    flipped[i] ^= std::byte{1};
    EXPECT_EQ(StatusOf(flipped).code(), absl::StatusCode::kDataLoss) << i;
  }
  auto longer = good;
  longer.push_back({});
  EXPECT_EQ(StatusOf(longer).code(), absl::StatusCode::kDataLoss);
  auto other = File();
  other[4] = std::byte{2};
  EXPECT_EQ(StatusOf(Sealed(other)).code(), absl::StatusCode::kUnimplemented);
  other = File();
  other[0] = std::byte{0};
  EXPECT_EQ(StatusOf(Sealed(other)).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(BudgetProfileTest, NumbersOutsideTheirLimitsAreRefused) {
  for (const auto& [at, number] :
       {std::pair{0, 0.1f}, {1, 0.0f}, {2, 1.5f}, {3, -1.0f}, {4, NAN}}) {
    auto file = File();
    std::memcpy(file.data() + kHeaderBytes + at * sizeof(float), &number,
                sizeof(number));
    EXPECT_EQ(StatusOf(Sealed(file)).code(),
              absl::StatusCode::kInvalidArgument)
        << at << ": " << number;
  }
}

}  // namespace
}  // namespace forecache
