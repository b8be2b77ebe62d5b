// Code planes of both kinds and their scans: every instruction set on every
// case against the specification.
#include "kernels/code_scan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/code_plane.h"
#include "kernels/rotation.h"
#include "kernels/testing/data.h"
#include "tests/kernels/isa.h"

namespace forecache {
namespace {

constexpr float kUntouched = -12345.0f;
// What the header promises of the log-sum-exp of rounded logits.
constexpr double kLseTolerance = 0.011;

// Three planes of different keys, and a query group.
class Context {
 public:
  Context(CodeKind kind, const ScoreCase& shape) : kind_(kind), keys_(shape) {
    const size_t bytes = CodePlaneBytes(kind, shape.head_dim);
    for (int p = 0; p < kPlanes; ++p) {
      ScoreCase full = shape;
      full.tokens = kCodePlaneTokens;
      const KeyPlane keys(full, p + 1);
      memory_.push_back(MakeAligned(bytes));
      EncodeCodePlaneRef(kind, keys.keys.get(), shape.type, shape.head_dim,
                         memory_.back().get());
      planes_.push_back(memory_.back().get());
    }
    block_max.assign(row_stride() * shape.group, kUntouched);
    lse.assign(shape.group, kUntouched);
  }

  CodeScan Scan() {
    CodeScan scan;
    scan.kind = kind_;
    scan.head_dim = keys_.shape.head_dim;
    scan.group = keys_.shape.group;
    scan.planes = planes_.data();
    scan.plane_count = kPlanes;
    scan.q = keys_.q.data();
    scan.scale = keys_.scale;
    scan.block_max = block_max.data();
    scan.row_stride = row_stride();
    scan.lse = lse.data();
    return scan;
  }

  // How far rounding the queries may move a logit of `head`: half a step in
  // each channel.
  double RoundingBound(int head) const {
    double bound = 0;
    const int head_dim = keys_.shape.head_dim;
    for (const std::byte* plane : planes_) {
      bound = std::max(bound, kind_ == CodeKind::k4Bit
                                  ? Bound4Bit(plane, Query(head), head_dim)
                                  : BoundRotated(plane, Query(head), head_dim));
    }
    return bound * keys_.scale + 1e-5 * (1 + keys_.logit_bound);
  }

  size_t row_stride() const { return kPlanes * kCodePlaneBlocks + 3; }
  bool IsBlock(size_t i) const {
    return i % row_stride() < kPlanes * kCodePlaneBlocks;
  }
  double logit_bound() const { return keys_.logit_bound; }

  std::vector<float> block_max;
  std::vector<float> lse;

 private:
  static constexpr int kPlanes = 3;

  const float* Query(int head) const {
    return keys_.q.data() + size_t(head) * keys_.shape.head_dim;
  }
  static double Bound4Bit(const std::byte* plane, const float* q,
                          int head_dim) {
    double most = 0;
    for (int c = 0; c < head_dim; ++c) {
      most = std::max<double>(
          most, std::abs(q[c] * CodePlaneScale(plane, head_dim)[c]));
    }
    return most / 127 / 2 * kCodeCentre * head_dim;
  }
  static double BoundRotated(const std::byte* plane, const float* q,
                             int head_dim) {
    std::vector<float> w(q, q + head_dim);
    RotateVectors<1>(w.data(), head_dim);
    double most = 0;
    for (int c = 0; c < head_dim; ++c) {
      if (c % 16 >= 4) continue;
      most = std::max<double>(most, std::abs(w[c]) + std::abs(w[c + 4]) +
                                        std::abs(w[c + 8]) +
                                        std::abs(w[c + 12]));
    }
    double norm = 0, levels = 0;
    for (int t = 0; t < kCodePlaneTokens; ++t) {
      norm = std::max<double>(
          norm, F16ToFloat(RotatedPlaneNorms(plane, head_dim)[t]));
    }
    levels = 3.0 * head_dim;
    return most / 40 / 2 * norm * levels;
  }

  const CodeKind kind_;
  const KeyPlane keys_;
  std::vector<AlignedBytes> memory_;
  std::vector<const std::byte*> planes_;
};

using KindCase = std::tuple<std::string, CodeKind, ScoreCase>;
std::string KindCaseName(const testing::TestParamInfo<KindCase>& info) {
  const auto& [isa, kind, shape] = info.param;
  return isa + (kind == CodeKind::k4Bit ? "_4bit_" : "_2bit_") + shape.name;
}

class CodeScanTest : public testing::TestWithParam<KindCase> {
 protected:
  CodeScanTest() : isa_(std::get<0>(GetParam())) {}
  CodeKind kind() const { return std::get<1>(GetParam()); }
  const ScoreCase& shape() const { return std::get<2>(GetParam()); }

 private:
  ScopedIsa isa_;
};

TEST_P(CodeScanTest, PlaneBytesAreTheSpecifications) {
  const KeyPlane plane(shape());
  std::vector<std::byte> want(CodePlaneBytes(kind(), shape().head_dim));
  const AlignedBytes got = MakeAligned(want.size());
  std::memset(got.get(), 0xEE, want.size());
  EncodeCodePlaneRef(kind(), plane.keys.get(), shape().type, shape().head_dim,
                     want.data());
  EncodeCodePlane(kind(), plane.keys.get(), shape().type, shape().head_dim,
                  got.get());
  ASSERT_EQ(std::memcmp(got.get(), want.data(), want.size()), 0);
}

TEST_P(CodeScanTest, ScoresMatchTheSpecification) {
  Context got(kind(), shape()), want(kind(), shape());
  ScanCodesRef(want.Scan());
  ScanCodesCpu(got.Scan());
  for (int g = 0; g < shape().group; ++g) {
    const double bound = got.RoundingBound(g);
    // Far below the bound in fact: rounding errors are of either sign.
    const double usual = 0.015 * got.logit_bound();
    for (size_t b = 0; b < got.row_stride(); ++b) {
      const size_t i = g * got.row_stride() + b;
      if (!got.IsBlock(i)) {
        ASSERT_EQ(got.block_max[i], kUntouched) << "head " << g << " " << b;
        continue;
      }
      ASSERT_NEAR(got.block_max[i], want.block_max[i], std::min(bound, usual))
          << "head " << g << " block " << b;
    }
    ASSERT_NEAR(got.lse[g], want.lse[g],
                std::min(bound, usual) + kLseTolerance);
  }
}

TEST_P(CodeScanTest, ScoresDoNotDependOnTheLogSumExp) {
  Context with(kind(), shape()), without(kind(), shape());
  ScanCodesCpu(with.Scan());
  CodeScan scan = without.Scan();
  scan.lse = nullptr;
  ScanCodesCpu(scan);
  ASSERT_EQ(with.block_max, without.block_max);
}

TEST_P(CodeScanTest, LogitsAreThoseOfTheScores) {
  Context with(kind(), shape()), without(kind(), shape());
  ScanCodesCpu(without.Scan());
  const size_t stride = 3 * kCodePlaneTokens + 7;
  std::vector<float> logits(stride * shape().group, kUntouched);
  CodeScan scan = with.Scan();
  scan.logits = logits.data();
  scan.logit_stride = stride;
  ScanCodesCpu(scan);
  ASSERT_EQ(with.block_max, without.block_max);
  ASSERT_EQ(with.lse, without.lse);
  for (int g = 0; g < shape().group; ++g) {
    const float* row = logits.data() + g * stride;
    ASSERT_EQ(row[3 * kCodePlaneTokens], kUntouched);
    for (int b = 0; b < 3 * kCodePlaneBlocks; ++b) {
      ASSERT_EQ(*std::max_element(row + b * 16, row + b * 16 + 16),
                with.block_max[g * with.row_stride() + b])
          << "head " << g << " block " << b;
    }
  }
}

TEST_P(CodeScanTest, ManyPlanesAreTheSameAsOneByOne) {
  Context all(kind(), shape()), single(kind(), shape());
  ScanCodesCpu(all.Scan());
  CodeScan scan = single.Scan();
  std::vector<double> sum(shape().group);
  for (int p = 0; p < 3; ++p) {
    scan.plane_count = 1;
    ScanCodesCpu(scan);
    for (int g = 0; g < shape().group; ++g) {
      sum[g] += std::exp(double{single.lse[g]} - all.lse[g]);
    }
    ++scan.planes;
    scan.block_max += kCodePlaneBlocks;
  }
  ASSERT_EQ(all.block_max, single.block_max);
  for (int g = 0; g < shape().group; ++g) {
    ASSERT_NEAR(std::log(sum[g]), 0, 2 * kLseTolerance);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cpu, CodeScanTest,
    testing::Combine(testing::ValuesIn(KernelIsasForTest()),
                     testing::Values(CodeKind::k4Bit, CodeKind::k2BitRotated),
                     testing::ValuesIn(CodeScoreCases())),
    KindCaseName);

class CodeKindTest : public testing::TestWithParam<CodeKind> {};

TEST_P(CodeKindTest, NoPlanesHaveNoSum) {
  Context context(GetParam(), {"none", 64, kF16, 2});
  CodeScan scan = context.Scan();
  scan.planes = nullptr;
  scan.plane_count = 0;
  ScanCodesCpu(scan);
  EXPECT_EQ(context.lse[1], -std::numeric_limits<float>::infinity());
  EXPECT_EQ(context.block_max[0], kUntouched);
}

// Queries are rounded to the same integers whatever the vectors' width.
TEST_P(CodeKindTest, InstructionSetsAgree) {
  std::deque<Context> all;
  for (const std::string& isa : KernelIsasForTest()) {
    if (isa == "SCALAR") continue;
    ScopedIsa limit(isa);
    all.emplace_back(GetParam(), ScoreCase{"agree", 128, kBF16, 5});
    ScanCodesCpu(all.back().Scan());
    const Context& first = all.front();
    for (size_t i = 0; i < first.block_max.size(); ++i) {
      ASSERT_NEAR(all.back().block_max[i], first.block_max[i],
                  1e-6 * first.logit_bound())
          << isa;
    }
    for (size_t g = 0; g < first.lse.size(); ++g) {
      ASSERT_NEAR(all.back().lse[g], first.lse[g], kLseTolerance) << isa;
    }
  }
}

// Keys that are all alike leave nothing to code, on any instruction set.
TEST_P(CodeKindTest, EqualKeysAreTheirMean) {
  constexpr int kHeadDim = 48;
  std::vector<uint16_t> keys(size_t(kCodePlaneTokens) * kHeadDim);
  for (size_t i = 0; i < keys.size(); ++i) {
    keys[i] = FloatToF16(static_cast<float>(i % kHeadDim) - 20);
  }
  const std::byte* from = reinterpret_cast<const std::byte*>(keys.data());
  std::vector<float> decoded(keys.size());
  for (const std::string& isa : KernelIsasForTest()) {
    ScopedIsa limit(isa);
    const AlignedBytes plane =
        MakeAligned(CodePlaneBytes(GetParam(), kHeadDim));
    EncodeCodePlane(GetParam(), from, kF16, kHeadDim, plane.get());
    DecodeCodePlane(GetParam(), plane.get(), kHeadDim, decoded.data());
    for (size_t i = 0; i < keys.size(); ++i) {
      ASSERT_NEAR(decoded[i], F16ToFloat(keys[i]), 1e-4) << isa << " " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, CodeKindTest,
                         testing::Values(CodeKind::k4Bit,
                                         CodeKind::k2BitRotated),
                         [](const auto& info) {
                           return info.param == CodeKind::k4Bit ? "four_bits"
                                                                : "two_bits";
                         });

TEST(RotationTest, KeepsLengthsAndIsUndone) {
  for (const int head_dim : {16, 48, 64, 80, 128, 256}) {
    std::vector<float> x(head_dim), y;
    double before = 0, after = 0;
    for (int c = 0; c < head_dim; ++c) {
      x[c] = static_cast<float>(c % 7) - 2.5f;
      before += double{x[c]} * x[c];
    }
    y = x;
    RotateVectors<1>(y.data(), head_dim);
    for (float value : y) after += double{value} * value;
    EXPECT_NEAR(after, before, 1e-4 * before) << head_dim;
    HadamardVectors<1>(y.data(), head_dim);
    FlipSigns<1>(y.data(), head_dim);
    for (int c = 0; c < head_dim; ++c) ASSERT_NEAR(y[c], x[c], 1e-5);
  }
}

// The bytes of a plane are on disk: a change of the layout shows here.
TEST(CodePlaneLayoutTest, RotatedCodesLieWhereTheHeaderSays) {
  constexpr int kHeadDim = 32;
  const KeyPlane keys({"layout", kHeadDim, kBF16, 1});
  const AlignedBytes plane =
      MakeAligned(CodePlaneBytes(CodeKind::k2BitRotated, kHeadDim));
  EncodeCodePlane(CodeKind::k2BitRotated, keys.keys.get(), kBF16, kHeadDim,
                  plane.get());
  const float* mean = reinterpret_cast<const float*>(plane.get());
  const uint16_t* norms =
      reinterpret_cast<const uint16_t*>(plane.get() + 4 * kHeadDim);
  const uint8_t* codes = reinterpret_cast<const uint8_t*>(norms + 256);
  std::vector<float> decoded(256 * kHeadDim);
  DecodeCodePlane(CodeKind::k2BitRotated, plane.get(), kHeadDim,
                  decoded.data());
  for (int t : {0, 15, 16, 100, 255}) {
    std::vector<float> key(decoded.begin() + t * kHeadDim,
                           decoded.begin() + (t + 1) * kHeadDim);
    for (int c = 0; c < kHeadDim; ++c) key[c] -= mean[c];
    RotateVectors<1>(key.data(), kHeadDim);
    for (int c = 0; c < kHeadDim; ++c) {
      const size_t run = t / 16 * (kHeadDim / 16) + c / 16;
      const uint8_t byte = codes[run * 64 + t % 16 * 4 + c % 4];
      const int level = 2 * (byte >> c % 16 / 4 * 2 & 3) - 3;
      ASSERT_NEAR(key[c], F16ToFloat(norms[t]) * level, 1e-4)
          << "token " << t << " channel " << c;
    }
  }
}

}  // namespace
}  // namespace forecache
