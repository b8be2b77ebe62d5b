// Sealed segments on a solid-state disk, found again after a restart.
//
// docs/ONDISK.md has the format, and why it is so.
#ifndef FORECACHE_KVSTORE_SSD_SSD_TIER_H_
#define FORECACHE_KVSTORE_SSD_SSD_TIER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/metrics.h"
#include "kvstore/ssd/disk.h"
#include "kvstore/ssd/metadata.h"
#include "kvstore/ssd/segment_io.h"
#include "kvstore/ssd/ssd_metrics.h"
#include "kvstore/ssd/ssd_segment.h"
#include "kvstore/tier.h"

namespace forecache {

struct SsdTierOptions {
  // All that the tier may take of the disk, metadata included.
  size_t capacity_bytes = size_t{1} << 30;
  // A segment takes whole extents: smaller ones waste less, larger ones make
  // longer writes.  A disk keeps what it was made with.
  size_t extent_bytes = kSsdExtentBytes;
};

// A segment that was found at the start.
//
// Threads: a value.
struct FoundSegment {
  SegmentId id;
  SegmentOrigin origin;
  KvGeometry geometry;
  size_t bytes = 0;
  uint64_t used = 0;  // larger is later
};

// Data is durable before its record is written, and a record is forgotten for
// good before its extents are used again: so a crash leaves whole segments.
// After a write that failed nothing more is written until Revive finds the disk
// well: writable() is false, and what is there is read as before.
//
// Threads: safe to call from any thread.
// Lifetime: the arena and the metrics outlive it, it outlives every pin.
class SsdTier : public Tier {
 public:
  // Asked before `bytes` are written: waits for its turn, or says false to
  // give up.
  using WriteGate = std::function<bool(size_t bytes)>;

  // Locks the disk and finds what is there.  kFailedPrecondition: another
  // process uses it, or its format is of a newer version; kInvalidArgument:
  // capacity_bytes is too small; kResourceExhausted: the disk has no room.
  static absl::StatusOr<std::unique_ptr<SsdTier>> Open(
      const SsdTierOptions& options, std::unique_ptr<Disk> disk,
      DramArena* arena, Metrics* metrics);
  ~SsdTier() override;

  // What was there at the start, the least recently used first.
  std::vector<FoundSegment> TakeFound() { return std::move(found_); }

  // Writes a copy; OK means that it outlives a crash.  Besides Put's codes:
  // kDataLoss: `segment` is damaged; kCancelled: `gate` said so;
  // kUnavailable and kResourceExhausted with writable() false: the disk failed.
  absl::Status Write(const SegmentId& id, const SegmentOrigin& origin,
                     const SegmentView& segment, const WriteGate& gate);
  bool writable() const { return writable_.load(); }
  // Tries whether the disk takes writes again, and makes sure that it has no
  // record but those of segments that Pin finds.
  absl::Status Revive() ABSL_LOCKS_EXCLUDED(mu_);
  // What a copy takes.
  size_t BytesOf(const SegmentView& segment) const {
    return ExtentsOf(segment) * extent_bytes_;
  }
  // Whether Write finds extents for it.
  bool HasRoomFor(const SegmentView& segment) const ABSL_LOCKS_EXCLUDED(mu_);
  // Whether it would if the tier were empty.
  bool CouldHold(const SegmentView& segment) const;

  // Notes uses, so that a restart knows them.
  void Touch(std::span<const SegmentId> ids);

  // Reads one (layer, KV head) of a segment, and with plane 0 the summary, and
  // checks them.  Adds what it read to *bytes.  kDataLoss, kUnavailable,
  // kNotFound; kOutOfRange when the segment has no such plane.
  absl::Status CheckPlane(const SegmentId& id, size_t plane, size_t* bytes);

  // What Pin would find now, in no order.
  std::vector<SegmentId> Ids() const ABSL_LOCKS_EXCLUDED(mu_);
  // Reads under way.
  int loads() const { return io_->loads(); }
  uint64_t metadata_bytes() const { return metadata_->bytes(); }
  const Disk& disk() const { return *disk_; }

  // Tier
  std::string Name() const override { return "ssd"; }
  absl::Status Put(const SegmentId& id, const SegmentOrigin& origin,
                   std::shared_ptr<Segment> segment) override;
  absl::StatusOr<std::shared_ptr<const SegmentView>> Pin(
      const SegmentId& id) override ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Drop(const SegmentId& id) override ABSL_LOCKS_EXCLUDED(mu_);
  bool IsPinned(const SegmentId& id) const override ABSL_LOCKS_EXCLUDED(mu_);
  size_t used_bytes() const override ABSL_LOCKS_EXCLUDED(mu_);
  size_t capacity_bytes() const override { return extents_ * extent_bytes_; }
  size_t segments() const override ABSL_LOCKS_EXCLUDED(mu_);

 private:
  // A segment that Pin finds.
  struct Held {
    explicit Held(std::shared_ptr<SsdPlace> place) : place(std::move(place)) {}
    const std::shared_ptr<SsdPlace> place;
    absl::Mutex loading;                   // one brings it to memory
    std::weak_ptr<const SsdSegment> live;  // guarded by mu_
  };

  SsdTier(std::unique_ptr<Disk> disk, DramArena* arena, Metrics* metrics);
  absl::Status Recover(const SsdTierOptions& options);
  absl::Status ReadFormat(size_t extent_bytes);
  absl::Status WriteFormat();
  absl::Status FindSegments();
  // Whether the record's extents exist and are nobody's yet; takes them.
  bool Claim(const SegmentRecord& record);

  std::shared_ptr<Held> Find(const SegmentId& id) const
      ABSL_LOCKS_EXCLUDED(mu_);
  void AwaitDrop(const SegmentId& id) ABSL_LOCKS_EXCLUDED(mu_);
  size_t ExtentsOf(const SegmentView& segment) const;
  absl::StatusOr<std::vector<uint32_t>> TakeExtents(size_t count)
      ABSL_LOCKS_EXCLUDED(mu_);
  SsdPlace::GiveBack GiveBack() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status WriteData(const SegmentView& segment, const WriteGate& gate,
                         SsdPlace* place);
  absl::Status WriteSummary(const SsdPlace& place, std::byte* summary);
  // Writes no more after an error of the disk.
  absl::Status Failed(const absl::Status& status);
  // The same, and the record of `place` may be on disk or not.
  absl::Status RecordFailed(const absl::Status& status,
                            std::shared_ptr<SsdPlace> place)
      ABSL_LOCKS_EXCLUDED(mu_);

  const std::unique_ptr<Disk> disk_;
  DramArena* const arena_;
  SsdMetrics metrics_;
  size_t extent_bytes_ = 0;
  size_t extents_ = 0;
  std::unique_ptr<DiskFile> file_;
  std::unique_ptr<SsdMetadata> metadata_;
  std::unique_ptr<SegmentIo> io_;
  std::vector<FoundSegment> found_;
  std::atomic<bool> writable_{true};
  std::atomic<uint64_t> clock_{1};       // of uses
  std::atomic<uint64_t> generation_{1};  // the next
  // Writes go one after the other.
  absl::Mutex write_mu_ ABSL_ACQUIRED_BEFORE(mu_);
  mutable absl::Mutex mu_;
  // Given back, but the records that named them may still be on disk.
  std::vector<uint32_t> freed_ ABSL_GUARDED_BY(mu_);
  std::set<uint32_t> free_ ABSL_GUARDED_BY(mu_);
  // Their records may be on disk although they should not be: until Revive has
  // seen to that their extents are nobody's.
  std::vector<std::shared_ptr<SsdPlace>> lost_ ABSL_GUARDED_BY(mu_);
  std::unordered_map<SegmentId, std::shared_ptr<Held>, SegmentIdHash> held_
      ABSL_GUARDED_BY(mu_);
  // Not found any more, and their records are about to go: one of the same
  // segment is not written meanwhile, or it would go instead.
  std::unordered_set<SegmentId, SegmentIdHash> dropping_ ABSL_GUARDED_BY(mu_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_SSD_TIER_H_
