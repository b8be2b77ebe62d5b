#include "kvstore/segment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "common/crc32c.h"
#include "kernels/code_scan.h"
#include "tests/kvstore/context.h"

namespace forecache {
namespace {

constexpr CodeKind kKind = CodeKind::k2BitRotated;

class SegmentTest : public ::testing::Test {
 protected:
  SegmentTest()
      : arena_(*DramArena::Create(size_t{4} << 20)),
        context_(1, 1),
        segment_(*Segment::Create(arena_.get(), kTestGeometry, kKind)) {}

  absl::Status Put(const TestContext& from, int layer, int block) {
    std::vector<std::byte> payload = from.PutPayload(layer, block, 1);
    const size_t part = kTestGeometry.PartBytes();
    const size_t table = kTestGeometry.kv_heads * sizeof(wire::PartChecksums);
    const std::byte* k = payload.data() + table;
    return segment_->PutBlock(
        layer, block,
        {payload.data(), sizeof(wire::PartChecksums), k,
         k + kTestGeometry.kv_heads * part, part});
  }
  void PutAll() {
    for (int layer = 0; layer < kTestGeometry.layers; ++layer) {
      for (int block = 0; block < kSegmentBlocks; ++block) {
        ASSERT_EQ(Put(context_, layer, block), absl::OkStatus());
      }
    }
  }
  wire::BlockStatus Read(int layer, int head, int block) {
    k_.assign(kTestGeometry.PartBytes(), {});
    v_ = k_;
    BlockRead read{head, block, k_.data(), v_.data()};
    segment_->Read(layer, {&read, 1});
    return read.status;
  }

  std::unique_ptr<DramArena> arena_;
  TestContext context_;
  std::shared_ptr<Segment> segment_;
  std::vector<std::byte> k_, v_;
};

TEST_F(SegmentTest, ReadsWhatWasPut) {
  ASSERT_EQ(Put(context_, 1, 3), absl::OkStatus());
  EXPECT_EQ(segment_->Present(1), 1 << 3);
  EXPECT_EQ(segment_->Present(0), 0);
  EXPECT_EQ(Read(1, 1, 3), wire::BlockStatus::kOk);
  EXPECT_TRUE(std::ranges::equal(k_, context_.Part(1, 1, 3, false)));
  EXPECT_TRUE(std::ranges::equal(v_, context_.Part(1, 1, 3, true)));
  EXPECT_EQ(Read(1, 1, 4), wire::BlockStatus::kNotFound);
  EXPECT_EQ(Read(0, 1, 3), wire::BlockStatus::kNotFound);
}

TEST_F(SegmentTest, PutAgain) {
  TestContext other(2, 1);
  ASSERT_EQ(Put(context_, 0, 0), absl::OkStatus());
  EXPECT_EQ(Put(context_, 0, 0), absl::OkStatus());
  EXPECT_TRUE(absl::IsAlreadyExists(Put(other, 0, 0)));
  EXPECT_EQ(Read(0, 0, 0), wire::BlockStatus::kOk);
  EXPECT_TRUE(std::ranges::equal(k_, context_.Part(0, 0, 0, false)));
}

TEST_F(SegmentTest, PutMendsADamagedBlock) {
  ASSERT_EQ(Put(context_, 0, 0), absl::OkStatus());
  ASSERT_EQ(segment_->CorruptForTest(0, 1, 0, false, 9), absl::OkStatus());
  EXPECT_EQ(Read(0, 1, 0), wire::BlockStatus::kDataLoss);
  EXPECT_EQ(Read(0, 0, 0), wire::BlockStatus::kOk);
  EXPECT_EQ(Put(context_, 0, 0), absl::OkStatus());
  EXPECT_EQ(Read(0, 1, 0), wire::BlockStatus::kOk);
}

TEST_F(SegmentTest, SealNeedsAllBlocksIntact) {
  EXPECT_TRUE(absl::IsFailedPrecondition(segment_->Verify()));
  PutAll();
  ASSERT_EQ(segment_->CorruptForTest(1, 0, 7, true, 0), absl::OkStatus());
  absl::Status status = segment_->Verify();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_TRUE(absl::IsFailedPrecondition(segment_->Verify()));
  ASSERT_EQ(Put(context_, 1, 7), absl::OkStatus());
  EXPECT_EQ(segment_->Verify(), absl::OkStatus());
}

TEST_F(SegmentTest, SealedHasCodesAndNeverChanges) {
  PutAll();
  EXPECT_TRUE(segment_->CodePlane(0, 0).empty());
  ASSERT_EQ(segment_->Seal(), absl::OkStatus());
  EXPECT_TRUE(segment_->sealed());
  EXPECT_EQ(segment_->Present(0), 0xFFFF);
  EXPECT_TRUE(absl::IsFailedPrecondition(Put(context_, 0, 0)));
  EXPECT_EQ(segment_->code_kind(), kKind);
  std::vector<std::byte> codes(CodePlaneBytes(kKind, kTestGeometry.head_dim));
  EncodeCodePlane(kKind, context_.Keys(1, 1), kTestGeometry.type,
                  kTestGeometry.head_dim, codes.data());
  EXPECT_TRUE(std::ranges::equal(segment_->CodePlane(1, 1), codes));
  EXPECT_TRUE(std::ranges::equal(
      segment_->KeyPlane(1, 1),
      ByteView(context_.Keys(1, 1), kTestGeometry.PlaneBytes())));
}

TEST_F(SegmentTest, MemoryComesBack) {
  PutAll();
  ASSERT_EQ(segment_->Seal(), absl::OkStatus());
  EXPECT_EQ(arena_->used_bytes(), segment_->bytes());
  EXPECT_GE(segment_->bytes(), kTestGeometry.SegmentBytes());
  segment_ = nullptr;
  EXPECT_EQ(arena_->used_bytes(), 0);
}

TEST_F(SegmentTest, OneSealClaim) {
  Segment::SealClaim claim(segment_.get());
  EXPECT_TRUE(claim.held());
  EXPECT_FALSE(Segment::SealClaim(segment_.get()).held());
  { Segment::SealClaim taken = std::move(claim); }
  EXPECT_TRUE(Segment::SealClaim(segment_.get()).held());
}

}  // namespace
}  // namespace forecache
