// What is written down of a segment on SSD, and where its bytes lie.
//
// docs/ONDISK.md has the bytes.
#ifndef FORECACHE_KVSTORE_SSD_SEGMENT_RECORD_H_
#define FORECACHE_KVSTORE_SSD_SEGMENT_RECORD_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kvstore/geometry.h"
#include "kvstore/segment.h"
#include "kvstore/segment_id.h"
#include "kvstore/tier.h"

namespace forecache {

// Newer ones are refused by name, older ones read.  Since 2 there are value
// planes.
inline constexpr uint16_t kSegmentRecordVersion = 2;

// Threads: a value.
struct SegmentRecord {
  SegmentId id;
  SegmentOrigin origin;
  KvGeometry geometry;
  CodeKind code_kind = CodeKind::k4Bit;
  bool has_value_planes = true;   // false: of version 1
  uint64_t generation = 0;        // of this copy: never used twice
  uint32_t summary_crc = 0;       // of the layout's summary
  std::vector<uint32_t> extents;  // numbers, in the segment's order
  bool operator==(const SegmentRecord&) const = default;
};

std::string EncodeSegmentRecord(const SegmentRecord& record);
// Takes apart what is stored under `id`.  kDataLoss: damaged, or another
// segment's; kFailedPrecondition: of a newer version.
absl::StatusOr<SegmentRecord> DecodeSegmentRecord(const SegmentId& id,
                                                  std::string_view bytes);

// Where the bytes of one segment lie, counted through its extents: first the
// blocks, each K part with its V part, by layer, KV head and block; then, at a
// page's start, the summary: code planes, value planes, the blocks' checksums.
//
// Threads: a value.
struct SegmentLayout {
  SegmentLayout(const KvGeometry& geometry, CodeKind code_kind,
                bool has_value_planes = true);
  explicit SegmentLayout(const SegmentRecord& record)
      : SegmentLayout(record.geometry, record.code_kind,
                      record.has_value_planes) {}

  size_t BlockOffset(int layer, int kv_head, int block) const {
    return (plane(layer, kv_head) * kSegmentBlocks + block) * block_bytes;
  }
  size_t plane(int layer, int kv_head) const {
    return size_t{1} * layer * kv_heads + kv_head;
  }
  // In the summary.
  size_t CodeOffset(int layer, int kv_head) const {
    return plane(layer, kv_head) * code_stride;
  }
  size_t ValueOffset(int layer, int kv_head) const {
    return planes * code_stride + plane(layer, kv_head) * value_stride;
  }
  size_t ChecksumOffset(int layer, int kv_head, int block) const {
    return checksums_offset + (plane(layer, kv_head) * kSegmentBlocks + block) *
                                  sizeof(wire::PartChecksums);
  }
  size_t Extents(size_t extent_bytes) const {
    return (bytes + extent_bytes - 1) / extent_bytes;
  }

  int kv_heads;
  size_t planes;
  size_t block_bytes;
  size_t code_stride;
  size_t value_stride;      // 0 without value planes
  size_t checksums_offset;  // in the summary
  size_t summary_offset;    // in the segment
  size_t summary_bytes;     // whole pages
  size_t bytes;             // of all
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_SEGMENT_RECORD_H_
