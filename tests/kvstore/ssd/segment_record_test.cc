#include "kvstore/ssd/segment_record.h"

#include <gtest/gtest.h>

#include "common/crc32c.h"
#include "common/rng.h"
#include "tests/kvstore/context.h"

namespace forecache {
namespace {

SegmentRecord Sample() {
  SegmentRecord record;
  record.id = SegmentId{{1, 2, 3}};
  record.origin.parent = SegmentId{{4}};
  record.origin.model.bytes[31] = 9;
  record.origin.tenant = "acme";
  record.geometry = kTestGeometry;
  record.code_kind = CodeKind::k2BitRotated;
  record.generation = 77;
  record.summary_crc = 0xDEADBEEF;
  record.extents = {5, 1, 9};
  return record;
}

TEST(SegmentRecordTest, ComesBackAsItWas) {
  const SegmentRecord record = Sample();
  auto decoded = DecodeSegmentRecord(record.id, EncodeSegmentRecord(record));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, record);
}

// Of version 1, without value planes.
TEST(SegmentRecordTest, OlderRecordsComeBackAsTheyWere) {
  SegmentRecord record = Sample();
  record.has_value_planes = false;
  auto decoded = DecodeSegmentRecord(record.id, EncodeSegmentRecord(record));
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(*decoded, record);
}

// The bytes of docs/ONDISK.md, of both versions.
TEST(SegmentRecordTest, HasTheBytesOfVersionTwo) {
  const std::string bytes = EncodeSegmentRecord(Sample());
  EXPECT_EQ(bytes.substr(0, 2), std::string("\2\0", 2));
  SegmentRecord older = Sample();
  older.has_value_planes = false;
  EXPECT_EQ(bytes.substr(2), EncodeSegmentRecord(older).substr(2));
}

TEST(SegmentRecordTest, HasTheBytesOfVersionOne) {
  SegmentRecord record = Sample();
  record.has_value_planes = false;
  const std::string bytes = EncodeSegmentRecord(record);
  EXPECT_EQ(bytes.size(), 2 + 4 + 16 + 16 + 32 + 24 + 8 + 4 + 1 + 4 + 4 + 12);
  EXPECT_EQ(bytes.substr(0, 2), std::string("\1\0", 2));
  EXPECT_EQ(bytes.substr(6, 4), std::string("\1\2\3\0", 4));
  EXPECT_EQ(Crc32c(std::as_bytes(std::span(bytes))), 0x91B8FDE9u);
}

TEST(SegmentRecordTest, AnyFlippedBitIsSeen) {
  const SegmentRecord record = Sample();
  const std::string bytes = EncodeSegmentRecord(record);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string damaged = bytes;
    damaged[bit / 8] ^= static_cast<char>(1 << (bit % 8));
    EXPECT_FALSE(DecodeSegmentRecord(record.id, damaged).ok()) << bit;
  }
}

TEST(SegmentRecordTest, CutAndLongRecordsAreDamaged) {
  const SegmentRecord record = Sample();
  const std::string bytes = EncodeSegmentRecord(record);
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_TRUE(absl::IsDataLoss(
        DecodeSegmentRecord(record.id, bytes.substr(0, size)).status()));
  }
  EXPECT_FALSE(DecodeSegmentRecord(record.id, bytes + "x").ok());
}

TEST(SegmentRecordTest, AnotherSegmentsRecordIsDamaged) {
  EXPECT_TRUE(absl::IsDataLoss(
      DecodeSegmentRecord(SegmentId{{9}}, EncodeSegmentRecord(Sample()))
          .status()));
}

TEST(SegmentRecordTest, ANewerVersionIsNamed) {
  std::string bytes = EncodeSegmentRecord(Sample());
  bytes[0] = 3;
  auto decoded = DecodeSegmentRecord(Sample().id, bytes);
  EXPECT_EQ(decoded.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(decoded.status().message().find("version 3"), std::string::npos);
}

TEST(SegmentLayoutTest, BlocksDoNotOverlapAndTheSummaryBehindThemIsWholePages) {
  for (int head_dim : {16, 64, 80, 128, 256}) {
    KvGeometry geometry = kTestGeometry;
    geometry.head_dim = head_dim;
    const SegmentLayout layout(geometry, CodeKind::k2BitRotated);
    size_t next = 0;
    for (int layer = 0; layer < geometry.layers; ++layer) {
      for (int head = 0; head < geometry.kv_heads; ++head) {
        for (int block = 0; block < kSegmentBlocks; ++block) {
          EXPECT_EQ(layout.BlockOffset(layer, head, block), next);
          next += geometry.BlockBytes();
        }
      }
    }
    EXPECT_EQ(layout.summary_offset, next);  // a plane is whole pages
    EXPECT_EQ(layout.summary_offset % kSsdPageBytes, 0);
    EXPECT_EQ(layout.summary_bytes % kSsdPageBytes, 0);
    EXPECT_GE(layout.summary_bytes,
              layout.ChecksumOffset(1, 1, kSegmentBlocks - 1) +
                  sizeof(wire::PartChecksums));
    EXPECT_GE(layout.ValueOffset(0, 0),
              layout.CodeOffset(1, 1) +
                  Segment::CodeStride(geometry, CodeKind::k2BitRotated));
    EXPECT_GE(layout.checksums_offset,
              layout.ValueOffset(1, 1) + Segment::ValueStride(geometry));
    // As version 1 had it.
    const SegmentLayout older(geometry, CodeKind::k2BitRotated, false);
    EXPECT_EQ(older.checksums_offset, older.planes * older.code_stride);
    EXPECT_EQ(older.CodeOffset(1, 1), layout.CodeOffset(1, 1));
  }
}

}  // namespace
}  // namespace forecache
