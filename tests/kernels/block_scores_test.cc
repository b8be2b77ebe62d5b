// ExactScores, code planes and CodeScores: every instruction set on every case
// against the specification, and what codes must be good for.
#include "kernels/block_scores.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/code_plane.h"
#include "kernels/testing/data.h"
#include "tests/kernels/isa.h"

namespace forecache {
namespace {

constexpr float kUntouched = -12345.0f;

// Scores of one call, with room around the rows to see stray writes.
struct Scores {
  explicit Scores(const KeyPlane& plane)
      : block_max(plane.row_stride() * plane.shape.group, kUntouched),
        lse(plane.shape.group, kUntouched) {}
  std::vector<float> block_max;
  std::vector<float> lse;
};

std::vector<std::byte> NewPlane(int head_dim) {
  return std::vector<std::byte>(CodePlaneBytes(head_dim), std::byte{0xEE});
}

void ExpectNear(const KeyPlane& plane, const Scores& got, const Scores& want,
                double tolerance) {
  const int blocks = (plane.shape.tokens + 15) / 16;
  for (int g = 0; g < plane.shape.group; ++g) {
    for (size_t b = 0; b < plane.row_stride(); ++b) {
      const size_t i = g * plane.row_stride() + b;
      if (static_cast<int>(b) < blocks) {
        ASSERT_NEAR(got.block_max[i], want.block_max[i], tolerance)
            << "head " << g << " block " << b;
      } else {
        ASSERT_EQ(got.block_max[i], kUntouched) << "head " << g << " " << b;
      }
    }
    if (blocks == 0) {
      ASSERT_EQ(got.lse[g], -std::numeric_limits<float>::infinity());
    } else {
      ASSERT_NEAR(got.lse[g], want.lse[g], 2 * tolerance + 1e-6) << g;
    }
  }
}

using IsaCase = std::tuple<std::string, ScoreCase>;
class IsaScoreTest : public testing::TestWithParam<IsaCase> {
 protected:
  IsaScoreTest() : isa_(std::get<0>(GetParam())) {}
  const ScoreCase& score_case() { return std::get<1>(GetParam()); }

 private:
  ScopedIsa isa_;
};

using ExactScoresTest = IsaScoreTest;
TEST_P(ExactScoresTest, MatchesTheSpecification) {
  const KeyPlane plane(score_case());
  Scores got(plane), want(plane);
  ExactScoresRef(plane.Exact(want.block_max.data(), want.lse.data()));
  ExactScoresCpu(plane.Exact(got.block_max.data(), got.lse.data()));
  ExpectNear(plane, got, want, 2e-6 * (1 + plane.logit_bound));
}

// The page_max of an attention over the same keys is the same number.
TEST_P(ExactScoresTest, AreTheLargestLogitsOfDecodeAttention) {
  const KeyPlane plane(score_case());
  if (plane.shape.tokens == 0) return;  // no pages, nothing to compare
  const int head_dim = plane.shape.head_dim;
  const int pages = (plane.shape.tokens + 15) / 16;
  // The plane again, as pages whose values are their keys.
  const size_t page_bytes = size_t(kPageTokens) * head_dim * 2;
  const AlignedBytes slots = MakeAligned(pages * page_bytes);
  std::memset(slots.get(), 0, pages * page_bytes);
  std::memcpy(slots.get(), plane.keys.get(),
              size_t(plane.shape.tokens) * head_dim * 2);
  std::vector<int32_t> order(pages);
  std::iota(order.begin(), order.end(), 0);
  const PageTable table{order.data(), pages,
                        plane.shape.tokens - (pages - 1) * kPageTokens};
  std::vector<float> out(plane.q.size()), lse(plane.shape.group);
  std::vector<float> page_max(size_t(pages) * plane.shape.group);
  float* page_max_of_head = page_max.data();
  DecodeAttention decode;
  decode.memory = {slots.get(), page_bytes, 0, plane.shape.type, head_dim};
  decode.kv_heads = 1;
  decode.group = plane.shape.group;
  decode.q = plane.q.data();
  decode.scale = plane.scale;
  decode.tables = &table;
  decode.out = out.data();
  decode.lse = lse.data();
  decode.page_max = &page_max_of_head;
  DecodeAttentionCpu(decode);

  Scores scores(plane);
  ExactScoresCpu(plane.Exact(scores.block_max.data(), scores.lse.data()));
  const double tolerance = 2e-6 * (1 + plane.logit_bound);
  for (int g = 0; g < plane.shape.group; ++g) {
    for (int p = 0; p < pages; ++p) {
      ASSERT_NEAR(page_max[size_t(g) * pages + p],
                  scores.block_max[g * plane.row_stride() + p], tolerance);
    }
    ASSERT_NEAR(lse[g], scores.lse[g], tolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, ExactScoresTest,
    testing::Combine(testing::ValuesIn(KernelIsasForTest()),
                     testing::ValuesIn(ExactScoreCases())),
    IsaCaseName<ScoreCase>);

using CodePlaneTest = IsaScoreTest;
TEST_P(CodePlaneTest, BytesAreTheSpecifications) {
  const KeyPlane plane(score_case());
  auto want = NewPlane(plane.shape.head_dim);
  auto got = want;
  EncodeCodePlaneRef(plane.keys.get(), plane.shape.type, plane.shape.head_dim,
                     want.data());
  EncodeCodePlane(plane.keys.get(), plane.shape.type, plane.shape.head_dim,
                  got.data());
  ASSERT_EQ(got, want);
}

TEST_P(CodePlaneTest, KeysAreWithinHalfAStep) {
  const KeyPlane plane(score_case());
  const int head_dim = plane.shape.head_dim;
  auto bytes = NewPlane(head_dim);
  EncodeCodePlane(plane.keys.get(), plane.shape.type, head_dim, bytes.data());
  std::vector<float> keys(size_t(kCodePlaneTokens) * head_dim);
  DecodeCodePlane(bytes.data(), head_dim, keys.data());
  const float* scale = CodePlaneScale(bytes.data(), head_dim);
  const auto* bits = reinterpret_cast<const uint16_t*>(plane.keys.get());
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_NEAR(keys[i], KvToFloat(plane.shape.type, bits[i]),
                0.501 * scale[i % head_dim] + 1e-6);
  }
}

// The bound that the header states, and 1 % of |q||k| scale.
TEST_P(CodePlaneTest, ScoresMatchTheSpecification) {
  const KeyPlane plane(score_case());
  const int head_dim = plane.shape.head_dim;
  auto bytes = NewPlane(head_dim);
  EncodeCodePlane(plane.keys.get(), plane.shape.type, head_dim, bytes.data());
  Scores got(plane), want(plane);
  CodeScoresRef(
      plane.Codes(bytes.data(), want.block_max.data(), want.lse.data()));
  CodeScoresCpu(
      plane.Codes(bytes.data(), got.block_max.data(), got.lse.data()));
  ExpectNear(plane, got, want, 0.01 * plane.logit_bound);

  const float* scale = CodePlaneScale(bytes.data(), head_dim);
  for (int g = 0; g < plane.shape.group; ++g) {
    float largest = 0;
    for (int c = 0; c < head_dim; ++c) {
      largest = std::max(
          largest, std::abs(plane.q[size_t(g) * head_dim + c] * scale[c]));
    }
    const double bound = plane.scale * largest / 127 / 2 * 7.5 * head_dim;
    for (int b = 0; b < kCodePlaneBlocks; ++b) {
      const size_t i = g * plane.row_stride() + b;
      ASSERT_NEAR(got.block_max[i], want.block_max[i], bound + 1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, CodePlaneTest,
    testing::Combine(testing::ValuesIn(KernelIsasForTest()),
                     testing::ValuesIn(CodeScoreCases())),
    IsaCaseName<ScoreCase>);

// Vectors quantise queries to the same integers whatever their width.
TEST(CodeScoresTest, InstructionSetsAgree) {
  const KeyPlane plane({"agree", 128, kBF16, 5});
  auto bytes = NewPlane(128);
  EncodeCodePlane(plane.keys.get(), plane.shape.type, 128, bytes.data());
  std::vector<Scores> all;
  for (const std::string& isa : KernelIsasForTest()) {
    if (isa == "SCALAR") continue;
    ScopedIsa limit(isa);
    all.emplace_back(plane);
    CodeScoresCpu(plane.Codes(bytes.data(), all.back().block_max.data(),
                              all.back().lse.data()));
    for (size_t i = 0; i < all.front().block_max.size(); ++i) {
      ASSERT_NEAR(all.back().block_max[i], all.front().block_max[i],
                  1e-6 * plane.logit_bound);
    }
    for (size_t g = 0; g < all.front().lse.size(); ++g) {
      ASSERT_NEAR(all.back().lse[g], all.front().lse[g], 0.012);
    }
  }
}

TEST(CodePlaneTest, FlatChannelsAndSignedZeros) {
  constexpr int kHeadDim = 16;
  std::vector<uint16_t> keys(size_t(kCodePlaneTokens) * kHeadDim);
  for (size_t i = 0; i < keys.size(); ++i) {
    const bool odd_token = i / kHeadDim % 2 == 1;
    switch (i % kHeadDim) {
      case 0:
        keys[i] = odd_token ? 0x8000 : 0;  // -0 and +0
        break;
      case 1:
        keys[i] = FloatToF16(3.5f);
        break;
      case 2:
        keys[i] = odd_token ? 1 : 0;  // the smallest number
        break;
      case 3:
        keys[i] = FloatToF16(odd_token ? 65504.0f : -65504.0f);
        break;
      default:
        keys[i] = FloatToF16(static_cast<float>(i % 31));
    }
  }
  const std::byte* from = reinterpret_cast<const std::byte*>(keys.data());
  auto want = NewPlane(kHeadDim);
  EncodeCodePlaneRef(from, kF16, kHeadDim, want.data());
  for (const std::string& isa : KernelIsasForTest()) {
    ScopedIsa limit(isa);
    auto got = NewPlane(kHeadDim);
    EncodeCodePlane(from, kF16, kHeadDim, got.data());
    EXPECT_EQ(got, want) << isa;
  }
  std::vector<float> decoded(keys.size());
  DecodeCodePlane(want.data(), kHeadDim, decoded.data());
  EXPECT_EQ(decoded[1], 3.5f);
  EXPECT_EQ(decoded[3], -65504.0f);
  EXPECT_NEAR(decoded[kHeadDim + 3], 65504.0f, 0.1f);
}

// What a plane is for: the blocks that codes rank highest hold nearly all the
// attention that the truly best blocks hold.
TEST(CodeScoresTest, TopBlocksHoldTheMassOfTheExactTop) {
  constexpr int kSegments = 12, kTop = 24, kHeadDim = 64;
  double held = 0, best = 0;
  for (uint64_t seed = 1; seed <= 6; ++seed) {
    const KeyPlane plane(
        {"recall", kHeadDim, kBF16, 1, kSegments * kCodePlaneTokens}, seed);
    const int blocks = plane.shape.tokens / kScoreBlockTokens;
    Scores exact(plane), codes(plane);
    ExactScoresCpu(plane.Exact(exact.block_max.data(), exact.lse.data()));
    std::vector<double> mass(blocks);
    for (int b = 0; b < blocks; ++b) {
      KeyPlane block({"block", kHeadDim, kBF16, 1, kScoreBlockTokens});
      ExactScores args = plane.Exact(block.q.data(), block.q.data() + 1);
      args.keys += size_t(b) * kScoreBlockTokens * kHeadDim * 2;
      args.tokens = kScoreBlockTokens;
      ExactScoresCpu(args);
      mass[b] = std::exp(block.q[1] - exact.lse[0]);
    }
    auto bytes = NewPlane(kHeadDim);
    for (int s = 0; s < kSegments; ++s) {
      EncodeCodePlane(
          plane.keys.get() + size_t(s) * kCodePlaneTokens * kHeadDim * 2,
          kBF16, kHeadDim, bytes.data());
      CodeScoresCpu(plane.Codes(bytes.data(),
                                codes.block_max.data() + s * kCodePlaneBlocks,
                                codes.lse.data()));
    }
    const auto top_mass = [&](const std::vector<float>& scores) {
      std::vector<int> order(blocks);
      std::iota(order.begin(), order.end(), 0);
      std::partial_sort(order.begin(), order.begin() + kTop, order.end(),
                        [&](int a, int b) { return scores[a] > scores[b]; });
      double sum = 0;
      for (int i = 0; i < kTop; ++i) sum += mass[order[i]];
      return sum;
    };
    held += top_mass(codes.block_max);
    best += top_mass(exact.block_max);
  }
  EXPECT_GE(held, 0.97 * best);
  RecordProperty("mass_by_codes_over_exact", std::to_string(held / best));
}

TEST(BlockProbabilitiesTest, AreExponentialsOfAllHalves) {
  std::vector<uint16_t> bits;
  for (uint32_t b = 0x8000; b <= 0xFC00; ++b) bits.push_back(b);
  std::vector<float> got(bits.size());
  for (const float shift : {0.0f, -0.37f, -9.0f}) {
    BlockProbabilities(bits.data(), shift, static_cast<int>(bits.size()),
                       got.data());
    for (size_t i = 0; i < bits.size(); ++i) {
      const double x = double{F16ToFloat(bits[i])} + shift;
      const double want = x > kNegligibleLogProbability ? std::exp(x) : 0;
      ASSERT_NEAR(got[i], want, want * 4e-6) << x;
    }
  }
}

}  // namespace
}  // namespace forecache
