// Value planes: their bytes, and every instruction set's scan against the
// specification.
#include "kernels/value_plane.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <tuple>
#include <vector>

#include "common/rng.h"
#include "gtest/gtest.h"
#include "kernels/testing/data.h"
#include "tests/kernels/isa.h"

namespace forecache {
namespace {

struct Shape {
  const char* name;
  KvType type;
  int head_dim;
  int group;
};

const Shape kShapes[] = {{"d16", KvType::kF16, 16, 1},
                         {"d64_group3", KvType::kF16, 64, 3},
                         {"d80_bf16", KvType::kBF16, 80, 4},
                         {"d128_group8", KvType::kBF16, 128, 8},
                         {"d256_group32", KvType::kF16, 256, 32}};

// A plane of random keys and values, and what they are.
struct Plane {
  explicit Plane(const Shape& shape) {
    const size_t count = size_t(kCodePlaneTokens) * shape.head_dim;
    Rng rng(7);
    std::vector<uint16_t> k(count), v(count);
    for (size_t i = 0; i < count; ++i) {
      k[i] = FloatToKv(shape.type, rng.Normal() * 3);
      // Channels of their own size.
      v[i] = FloatToKv(shape.type, rng.Normal() * float(1 + i % 5));
      keys.push_back(KvToFloat(shape.type, k[i]));
      values.push_back(KvToFloat(shape.type, v[i]));
    }
    const auto* const k_bytes = reinterpret_cast<const std::byte*>(k.data());
    const auto* const v_bytes = reinterpret_cast<const std::byte*>(v.data());
    const size_t size = ValuePlaneBytes(shape.head_dim);
    bytes = MakeAligned(size);
    std::memset(bytes.get(), 0xEE, size);
    EncodeValuePlane(k_bytes, v_bytes, shape.type, shape.head_dim, bytes.get());
    specified.resize(size);
    EncodeValuePlaneRef(k_bytes, v_bytes, shape.type, shape.head_dim,
                        specified.data());
    codes = MakeAligned(CodePlaneBytes(shape.head_dim));
    EncodeCodePlaneRef(k_bytes, shape.type, shape.head_dim, codes.get());
  }

  std::vector<float> keys, values;  // [256][head_dim]
  AlignedBytes bytes, codes;
  std::vector<std::byte> specified;  // what `bytes` must be
};

// Outputs of a scan, which start at what other planes left there.
struct Sums {
  explicit Sums(const Shape& shape)
      : mass(shape.group, 0.5f),
        keys(size_t(shape.group) * shape.head_dim, -1.0f),
        values(keys.size(), 2.0f) {}

  std::vector<float> mass, keys, values;
};

class ValuePlaneTest
    : public testing::TestWithParam<std::tuple<std::string, Shape>> {
 protected:
  static constexpr size_t kStride = kCodePlaneTokens + 5;
  static constexpr size_t kBlockStride = kCodePlaneBlocks + 1;

  ValuePlaneTest()
      : isa_(std::get<0>(GetParam())), plane_(shape()) {
    Rng rng(11);
    logits_.resize(kStride * shape().group);
    for (float& logit : logits_) logit = rng.Normal() * 3 - 4;
    lse_.assign(shape().group, 2.0f);
    FindLargest();
  }
  void FindLargest() {
    block_max_.assign(kBlockStride * shape().group, 99.0f);
    for (int g = 0; g < shape().group; ++g) {
      for (int b = 0; b < kCodePlaneBlocks; ++b) {
        const float* logits =
            logits_.data() + g * kStride + b * kScoreBlockTokens;
        block_max_[g * kBlockStride + b] =
            *std::max_element(logits, logits + kScoreBlockTokens);
      }
    }
  }
  const Shape& shape() const { return std::get<1>(GetParam()); }

  ValueScan Scan(uint32_t blocks, Sums* sums) const {
    return {.head_dim = shape().head_dim,
            .group = shape().group,
            .plane = plane_.bytes.get(),
            .blocks = blocks,
            .logits = logits_.data(),
            .logit_stride = kStride,
            .block_max = block_max_.data(),
            .row_stride = kBlockStride,
            .lse = lse_.data(),
            .mass = sums->mass.data(),
            .keys = sums->keys.data(),
            .values = sums->values.data()};
  }

  // How far rounding the weights of `blocks` may move a head's sums of
  // channels of root mean square 1: errors of a step / sqrt(12), a token, of
  // either sign, six deviations of their sum.  A step is at most the largest
  // weight / 127.
  double RoundingBound(int head, uint32_t blocks) const {
    double largest = 0;
    for (int b = 0; b < kCodePlaneBlocks; ++b) {
      if ((blocks >> b & 1) == 0) continue;
      largest = std::max<double>(
          largest, std::exp(block_max_[head * kBlockStride + b] - lse_[head]));
    }
    return 6 * std::sqrt(kCodePlaneTokens / 12.0) * largest / 127 +
           kCodePlaneTokens * std::exp(-kValueReach);
  }

  // `times` the bound where roundings are not of either sign.
  void ExpectNear(const Sums& got, const Sums& want, uint32_t blocks,
                  double times = 1) {
    const auto size = [](const std::vector<float>& of) {
      double squares = 0;
      for (const float x : of) squares += double{x} * x;
      return std::sqrt(squares / of.size());
    };
    const double key = size(plane_.keys), value = size(plane_.values);
    for (int g = 0; g < shape().group; ++g) {
      const double bound = times * RoundingBound(g, blocks);
      ASSERT_NEAR(got.mass[g], want.mass[g],
                  kCodePlaneTokens * std::exp(-kValueReach) +
                      1e-4 * want.mass[g])
          << "head " << g;
      for (int c = 0; c < shape().head_dim; ++c) {
        const size_t i = size_t(g) * shape().head_dim + c;
        ASSERT_NEAR(got.keys[i], want.keys[i], bound * key + 1e-4)
            << "head " << g << " channel " << c;
        ASSERT_NEAR(got.values[i], want.values[i], bound * value + 1e-4)
            << "head " << g << " channel " << c;
      }
    }
  }

  const ScopedIsa isa_;
  const Plane plane_;
  std::vector<float> logits_, block_max_, lse_;
};

TEST_P(ValuePlaneTest, BytesAreTheSpecifications) {
  ASSERT_EQ(std::memcmp(plane_.bytes.get(), plane_.specified.data(),
                        plane_.specified.size()),
            0);
}

TEST_P(ValuePlaneTest, CodesAreWithinHalfAStep) {
  const int d = shape().head_dim;
  std::vector<float> values(size_t(kCodePlaneTokens) * d);
  std::vector<float> means(size_t(kCodePlaneBlocks) * d);
  DecodeValuePlane(plane_.bytes.get(), d, values.data(), means.data());
  for (size_t i = 0; i < values.size(); ++i) {
    const float scale = ValuePlaneScale(plane_.bytes.get(), d)[i % d];
    ASSERT_NEAR(values[i], plane_.values[i], scale * 0.501f) << i;
  }
  for (int b = 0; b < kCodePlaneBlocks; ++b) {
    for (int c = 0; c < d; ++c) {
      double mean = 0;
      for (int t = 0; t < kScoreBlockTokens; ++t) {
        mean += plane_.keys[(size_t(b) * kScoreBlockTokens + t) * d + c];
      }
      mean /= kScoreBlockTokens;
      ASSERT_NEAR(means[size_t(b) * d + c], mean, 1e-3 + std::abs(mean) / 1000);
    }
  }
}

TEST_P(ValuePlaneTest, SumsMatchTheSpecification) {
  const std::byte* const none = nullptr;
  const std::byte* const some = plane_.codes.get();
  for (const std::byte* codes : {none, some}) {
    for (const uint32_t blocks : {0xFFFFu, 0x8001u, 0x0A50u, 0u}) {
      Sums got(shape()), want(shape());
      ValueScan scan = Scan(blocks, &got);
      scan.code_plane = codes;
      ScanValuesCpu(scan);
      scan = Scan(blocks, &want);
      scan.code_plane = codes;
      ScanValuesRef(scan);
      ExpectNear(got, want, blocks);
    }
  }
}

// One token has nearly all of a block, the others a little, all rounded down.
TEST_P(ValuePlaneTest, SumsMatchWhereWeightsDiffer) {
  for (size_t i = 0; i < logits_.size(); ++i) {
    logits_[i] = i % 16 == 3 ? 1.5f : -3.0f;
  }
  FindLargest();
  Sums got(shape()), want(shape());
  ValueScan scan = Scan(0xFFFF, &got);
  scan.code_plane = plane_.codes.get();
  ScanValuesCpu(scan);
  scan = Scan(0xFFFF, &want);
  scan.code_plane = plane_.codes.get();
  ScanValuesRef(scan);
  ExpectNear(got, want, 0xFFFF, 8);
}

TEST_P(ValuePlaneTest, WhatIsOutOfReachAddsNothing) {
  std::fill(logits_.begin(), logits_.end(), 2.0f - kValueReach - 1);
  FindLargest();
  Sums got(shape()), want(shape());
  ScanValuesCpu(Scan(0xFFFF, &got));
  EXPECT_EQ(got.mass, want.mass);
  EXPECT_EQ(got.keys, want.keys);
  EXPECT_EQ(got.values, want.values);
}

INSTANTIATE_TEST_SUITE_P(
    Isas, ValuePlaneTest,
    testing::Combine(testing::ValuesIn(KernelIsasForTest()),
                     testing::ValuesIn(kShapes)),
    IsaCaseName<Shape>);

// Stored planes depend on it.
TEST(ValuePlaneLayoutTest, CodesLieWhereTheHeaderSays) {
  const Plane plane({"", KvType::kF16, 32, 1});
  std::vector<float> values(size_t(kCodePlaneTokens) * 32);
  std::vector<float> means(size_t(kCodePlaneBlocks) * 32);
  DecodeValuePlane(plane.bytes.get(), 32, values.data(), means.data());
  const auto* bytes = reinterpret_cast<const uint8_t*>(plane.bytes.get());
  // Block 3, token 13, channel 21: the second run, its second 64 bytes, high.
  const size_t at = 8 * 32 + 2 * 16 * 32 + (3 * 2 + 1) * 128 + 64 +
                    4 * (21 - 16) + 1;
  const int code = bytes[at] >> 4;
  EXPECT_FLOAT_EQ(values[(3 * 16 + 13) * 32 + 21],
                  ValuePlaneLow(plane.bytes.get())[21] +
                      ValuePlaneScale(plane.bytes.get(), 32)[21] * code);
  EXPECT_EQ(ValuePlaneBytes(32), 8u * 32 + 2 * 16 * 32 + 256 * 16);
  EXPECT_EQ(ValuePlaneBytes(64), 10'752u);
}

}  // namespace
}  // namespace forecache
