// DecodeAttention: every instruction set on every case against the
// specification, and what must hold between calls.
#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "common/limits.h"
#include "gtest/gtest.h"
#include "kernels/attention.h"
#include "kernels/block_scores.h"
#include "kernels/testing/data.h"
#include "tests/kernels/isa.h"

namespace forecache {
namespace {

static_assert(kPageTokens == kBlockTokens);
static_assert(kKernelGroupMax == kGroupMax);
static_assert(kKernelHeadDimMax == kHeadDimMax);
static_assert(kCodePlaneTokens == kSegmentTokens);

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Accumulation in f32 moves a logit by this part of |q||k| scale at most.
constexpr double kDotTolerance = 2e-6;

double LogitTolerance(const AttentionData& data) {
  return 2e-6 + kDotTolerance * data.logit_bound();
}

using IsaCase = std::tuple<std::string, AttentionCase>;
class DecodeAttentionTest : public testing::TestWithParam<IsaCase> {
 protected:
  DecodeAttentionTest() : isa_(std::get<0>(GetParam())) {}
  const AttentionCase& attention_case() { return std::get<1>(GetParam()); }

 private:
  ScopedIsa isa_;
};

TEST_P(DecodeAttentionTest, MatchesTheSpecification) {
  AttentionData want(attention_case());
  AttentionData got(attention_case());
  DecodeAttentionRef(want.Decode());
  DecodeAttentionCpu(got.Decode());
  const double logit = LogitTolerance(want);
  // A logit that is off by e shifts a weight by about e of itself.
  const double value = 4 * (logit + 1e-6) * want.value_bound();
  for (size_t i = 0; i < want.out_size(); ++i) {
    ASSERT_NEAR(got.out()[i], want.out()[i], value) << i;
  }
  for (int h = 0; h < want.heads(); ++h) {
    if (std::isinf(want.lse()[h])) {
      ASSERT_EQ(got.lse()[h], -kInfinity) << h;
    } else {
      ASSERT_NEAR(got.lse()[h], want.lse()[h], 2 * logit) << h;
    }
  }
  for (int h = 0; h < want.kv_heads(); ++h) {
    for (size_t i = 0; i < want.page_max(h).size(); ++i) {
      ASSERT_NEAR(got.page_max(h)[i], want.page_max(h)[i], logit) << h;
    }
  }
}

TEST_P(DecodeAttentionTest, UnionIsTheMergeOfItsParts) {
  AttentionData data(attention_case());
  DecodeAttention whole = data.Decode();
  DecodeAttentionCpu(whole);

  // Even pages here, odd pages there; the partial last page stays last.
  std::vector<std::vector<int32_t>> slots[2];
  std::vector<PageTable> tables[2];
  std::vector<float> out[2], lse[2];
  for (int side = 0; side < 2; ++side) {
    slots[side].resize(data.kv_heads());
    for (int h = 0; h < data.kv_heads(); ++h) {
      const PageTable& table = data.tables()[h];
      for (int page = side; page < table.pages; page += 2) {
        slots[side][h].push_back(table.slots[page]);
      }
      const bool has_last = table.pages > 0 && (table.pages - 1) % 2 == side;
      tables[side].push_back({slots[side][h].data(),
                              static_cast<int>(slots[side][h].size()),
                              has_last ? table.last_page_tokens : kPageTokens});
    }
    DecodeAttention part = data.Decode();
    out[side].resize(data.out_size());
    lse[side].resize(data.heads());
    part.tables = tables[side].data();
    part.out = out[side].data();
    part.lse = lse[side].data();
    part.page_max = nullptr;
    DecodeAttentionCpu(part);
  }
  MergeAttention(data.heads(), attention_case().head_dim, out[0].data(),
                 lse[0].data(), out[1].data(), lse[1].data());
  const double tolerance =
      8 * (LogitTolerance(data) + 1e-6) * std::max(1.0, data.value_bound());
  for (size_t i = 0; i < data.out_size(); ++i) {
    ASSERT_NEAR(out[0][i], data.out()[i], tolerance) << i;
  }
  for (int h = 0; h < data.heads(); ++h) {
    if (std::isinf(data.lse()[h])) {
      ASSERT_EQ(lse[0][h], data.lse()[h]);
    } else {
      ASSERT_NEAR(lse[0][h], data.lse()[h], tolerance);
    }
  }
}

// Pages may come in any order: only rounding may differ.
TEST_P(DecodeAttentionTest, OrderOfPagesDoesNotMatter) {
  AttentionData data(attention_case());
  DecodeAttention args = data.Decode();
  DecodeAttentionCpu(args);
  const std::vector<float> before(data.out(), data.out() + data.out_size());
  std::vector<std::vector<int32_t>> slots(data.kv_heads());
  std::vector<PageTable> tables = data.tables();
  for (int h = 0; h < data.kv_heads(); ++h) {
    slots[h].assign(tables[h].slots, tables[h].slots + tables[h].pages);
    if (tables[h].pages > 1) {
      std::reverse(slots[h].begin(), slots[h].end() - 1);
    }
    tables[h].slots = slots[h].data();
  }
  args.tables = tables.data();
  args.page_max = nullptr;
  args.lse = nullptr;  // may be absent
  DecodeAttentionCpu(args);
  const double tolerance =
      4 * (LogitTolerance(data) + 1e-6) * data.value_bound();
  for (size_t i = 0; i < data.out_size(); ++i) {
    ASSERT_NEAR(before[i], data.out()[i], tolerance) << i;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, DecodeAttentionTest,
    testing::Combine(testing::ValuesIn(KernelIsasForTest()),
                     testing::ValuesIn(DecodeCases())),
    IsaCaseName<AttentionCase>);

TEST(MergeAttentionTest, NothingOnOneSideOrBoth) {
  const float minus = -std::numeric_limits<float>::infinity();
  float out_a[4] = {0, 0, 3, 4}, lse_a[2] = {minus, 1};
  const float out_b[4] = {0, 0, 0, 0}, lse_b[2] = {minus, minus};
  MergeAttention(2, 2, out_a, lse_a, out_b, lse_b);
  EXPECT_EQ(out_a[0], 0);
  EXPECT_EQ(lse_a[0], minus);
  EXPECT_EQ(out_a[2], 3);
  EXPECT_EQ(out_a[3], 4);
  EXPECT_EQ(lse_a[1], 1);
}

TEST(KernelIsaTest, OneOfThoseForTests) {
  const std::vector<std::string> all = KernelIsasForTest();
  EXPECT_EQ(std::count(all.begin(), all.end(), KernelIsa()), 1);
  for (const std::string& isa : all) {
    ScopedIsa limit(isa);
    EXPECT_EQ(KernelIsa(), isa);
  }
}

TEST(DecodeAttentionDeathTest, RefusesBadArguments) {
  AttentionData data({"bad", 64, kF16, 1, {16}});
  DecodeAttention args = data.Decode();
  args.memory.head_dim = 72;
  EXPECT_DEATH(DecodeAttentionCpu(args), "head_dim=72");
  args = data.Decode();
  args.group = 33;
  EXPECT_DEATH(DecodeAttentionCpu(args), "group=33");
}

}  // namespace
}  // namespace forecache
