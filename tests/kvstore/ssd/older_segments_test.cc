// Segments of version 1 of the disk's format, which had no value planes.
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "tests/kvstore/ssd_tier_fixture.h"

namespace forecache {
namespace {

// A sealed segment as it was then.
class WithoutValuePlanes : public SegmentView {
 public:
  explicit WithoutValuePlanes(std::shared_ptr<const Segment> segment)
      : segment_(std::move(segment)) {}

  const KvGeometry& geometry() const override { return segment_->geometry(); }
  uint16_t Present(int layer) const override {
    return segment_->Present(layer);
  }
  void Read(int layer, std::span<BlockRead> reads) const override {
    segment_->Read(layer, reads);
  }
  ByteView KeyPlane(int layer, int kv_head) const override {
    return segment_->KeyPlane(layer, kv_head);
  }
  ByteView CodePlane(int layer, int kv_head) const override {
    return segment_->CodePlane(layer, kv_head);
  }
  CodeKind code_kind() const override { return segment_->code_kind(); }
  ByteView ValuePlane(int, int) const override { return {}; }
  absl::Status CorruptForTest(int, int, int, bool, uint32_t) const override {
    return absl::UnimplementedError("not here");
  }

 private:
  const std::shared_ptr<const Segment> segment_;
};

class OlderSegmentsTest : public SsdTierFixture {
 protected:
  std::string Format() { return *NewMemoryDisk(files_)->ReadFile("format"); }
};

TEST_F(OlderSegmentsTest, AreReadAndHaveNoValuePlanes) {
  const SegmentId old_id{{1}}, new_id{{2}};
  Open();
  const auto segment = Sealed();
  ASSERT_EQ(tier_->Write(old_id, {}, WithoutValuePlanes(segment), Always),
            absl::OkStatus());
  tier_ = nullptr;
  FC_CHECK_OK(NewMemoryDisk(files_)->WriteFile(
      "format", "forecache-ssd 1 65536\n"));
  Open();
  // An older store must not read what is written from now on.
  EXPECT_EQ(Format(), "forecache-ssd 2 65536\n");
  ASSERT_EQ(tier_->Write(new_id, {}, *segment, Always), absl::OkStatus());
  Open();
  for (const SegmentId& id : {old_id, new_id}) {
    auto view = tier_->Pin(id);
    ASSERT_TRUE(view.ok()) << view.status();
    EXPECT_EQ((*view)->ValuePlane(1, 1).empty(), id == old_id);
    const ByteView codes = segment->CodePlane(1, 1);
    EXPECT_TRUE(std::ranges::equal(
        (*view)->CodePlane(1, 1).first(codes.size()), codes));
    std::vector<std::byte> bytes(kTestGeometry.BlockBytes());
    const size_t part = kTestGeometry.PartBytes();
    BlockRead read{1, 9, bytes.data(), bytes.data() + part};
    (*view)->Read(1, {&read, 1});
    ASSERT_EQ(read.status, wire::BlockStatus::kOk);
    EXPECT_TRUE(std::ranges::equal(ByteView(bytes).first(part),
                                   context_.Part(1, 1, 9, false)));
  }
}

}  // namespace
}  // namespace forecache
