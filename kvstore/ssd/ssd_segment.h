// A segment on SSD, as sessions read it.
#ifndef FORECACHE_KVSTORE_SSD_SSD_SEGMENT_H_
#define FORECACHE_KVSTORE_SSD_SSD_SEGMENT_H_

#include <memory>

#include "absl/status/statusor.h"
#include "kvstore/dram_arena.h"
#include "kvstore/segment.h"
#include "kvstore/ssd/segment_io.h"

namespace forecache {

// Its code planes and checksums are in the arena, its blocks on SSD: one that
// is read costs one read of its pages.
//
// Threads: safe to call from any thread.
// Lifetime: `io` and the arena outlive it.
class SsdSegment : public SegmentView {
 public:
  // Brings the summary to memory.  kResourceExhausted when the arena lacks the
  // room, kDataLoss when it is damaged, kUnavailable when the disk fails.
  static absl::StatusOr<std::shared_ptr<const SsdSegment>> Load(
      std::shared_ptr<const SsdPlace> place, SegmentIo* io, DramArena* arena);
  ~SsdSegment() override;

  const KvGeometry& geometry() const override {
    return place_->record.geometry;
  }
  uint16_t Present(int layer) const override { return 0xFFFF; }
  void Read(int layer, std::span<BlockRead> reads) const override;
  void StartRead(int layer, std::span<BlockRead> reads,
                 std::unique_ptr<PendingReads>* pending) const override;
  ByteView KeyPlane(int layer, int kv_head) const override { return {}; }
  ByteView CodePlane(int layer, int kv_head) const override;
  CodeKind code_kind() const override { return place_->record.code_kind; }
  ByteView ValuePlane(int layer, int kv_head) const override;
  // On the disk.
  absl::Status CorruptForTest(int layer, int kv_head, int block,
                              bool value_part, uint32_t bit) const override;

  wire::PartChecksums Checksums(int layer, int kv_head, int block) const;
  const SsdPlace& place() const { return *place_; }

 private:
  SsdSegment(std::shared_ptr<const SsdPlace> place, SegmentIo* io,
             DramArena* arena, Extent summary)
      : place_(std::move(place)), io_(io), arena_(arena), summary_(summary) {}

  const std::shared_ptr<const SsdPlace> place_;
  SegmentIo* const io_;
  DramArena* const arena_;
  const Extent summary_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_SSD_SEGMENT_H_
