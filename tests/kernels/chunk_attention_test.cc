// ChunkAttention: every instruction set on every case against the
// specification, against DecodeAttention, and split over parts.
#include <cmath>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/attention.h"
#include "kernels/testing/data.h"
#include "tests/kernels/isa.h"

namespace forecache {
namespace {

double Tolerance(const AttentionData& data) {
  return 4 * (3e-6 + 2e-6 * data.logit_bound()) * data.value_bound();
}

// The scalar specification takes seconds on the largest case.
bool TooDearForTheSpecification(const AttentionCase& c) {
  return size_t(c.queries) * c.tokens[0] * c.group * c.head_dim > 40'000'000;
}

using IsaCase = std::tuple<std::string, AttentionCase>;
class ChunkAttentionTest : public testing::TestWithParam<IsaCase> {
 protected:
  ChunkAttentionTest() : isa_(std::get<0>(GetParam())) {}
  const AttentionCase& attention_case() { return std::get<1>(GetParam()); }

 private:
  ScopedIsa isa_;
};

TEST_P(ChunkAttentionTest, MatchesTheSpecification) {
  if (TooDearForTheSpecification(attention_case())) {
    GTEST_SKIP() << "rows are compared with DecodeAttention instead";
  }
  AttentionData want(attention_case());
  AttentionData got(attention_case());
  ChunkAttentionRef(want.Chunk());
  ChunkAttentionCpu(got.Chunk(), 0, 1);
  for (size_t i = 0; i < want.out_size(); ++i) {
    ASSERT_NEAR(got.out()[i], want.out()[i], Tolerance(want)) << i;
  }
}

TEST_P(ChunkAttentionTest, RowIsDecodeAttentionOnItsPrefix) {
  const bool scalar = std::get<0>(GetParam()) == "SCALAR";
  if (scalar && TooDearForTheSpecification(attention_case())) {
    GTEST_SKIP() << "too long for scalar code: the other sets run it";
  }
  AttentionData data(attention_case());
  const ChunkAttention chunk = data.Chunk();
  ChunkAttentionCpu(chunk, 0, 1);
  const int row_floats = data.heads() * attention_case().head_dim;
  const int step = chunk.queries > 100 ? 37 : 1;
  std::vector<float> out(row_floats);
  for (int i = 0; i < chunk.queries; i += step) {
    std::vector<PageTable> tables = data.tables();
    const int tokens = chunk.first_position + i + 1;
    for (PageTable& table : tables) {
      table.pages = (tokens + kPageTokens - 1) / kPageTokens;
      table.last_page_tokens = tokens - (table.pages - 1) * kPageTokens;
    }
    DecodeAttention decode = data.Decode();
    decode.q = chunk.q + size_t(i) * row_floats;
    decode.tables = tables.data();
    decode.out = out.data();
    decode.lse = nullptr;
    decode.page_max = nullptr;
    DecodeAttentionCpu(decode);
    for (int c = 0; c < row_floats; ++c) {
      ASSERT_NEAR(chunk.out[size_t(i) * row_floats + c], out[c],
                  Tolerance(data))
          << "row " << i;
    }
  }
}

TEST_P(ChunkAttentionTest, PartsGiveTheSameBits) {
  if (TooDearForTheSpecification(attention_case())) {
    GTEST_SKIP() << "a size for the bench: the smaller ones cover it";
  }
  AttentionData whole(attention_case());
  ChunkAttentionCpu(whole.Chunk(), 0, 1);
  for (int parts : {2, 3, 7}) {
    AttentionData split(attention_case());
    const ChunkAttention args = split.Chunk();
    std::vector<std::thread> threads;
    for (int part = 0; part < parts; ++part) {
      threads.emplace_back(
          [&args, part, parts] { ChunkAttentionCpu(args, part, parts); });
    }
    for (std::thread& thread : threads) thread.join();
    for (size_t i = 0; i < whole.out_size(); ++i) {
      ASSERT_EQ(split.out()[i], whole.out()[i]) << parts << " parts, " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, ChunkAttentionTest,
    testing::Combine(testing::ValuesIn(KernelIsasForTest()),
                     testing::ValuesIn(ChunkCases())),
    IsaCaseName<AttentionCase>);

TEST(ChunkAttentionDeathTest, RefusesTooFewTokens) {
  AttentionData data({"bad", 64, kF16, 1, {20}, 4});
  ChunkAttention args = data.Chunk();
  args.first_position += 1;
  EXPECT_DEATH(ChunkAttentionCpu(args, 0, 1), "head 0 has 20");
}

TEST(ChunkAttentionTest, NoQueriesIsNoWork) {
  AttentionData data({"none", 64, kF16, 1, {20}, 4});
  ChunkAttention args = data.Chunk();
  args.queries = 0;
  args.out[0] = 5;
  ChunkAttentionCpu(args, 0, 1);
  EXPECT_EQ(args.out[0], 5);
}

}  // namespace
}  // namespace forecache
