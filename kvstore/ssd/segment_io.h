// Reading and writing ranges of segments that lie in extents.
#ifndef FORECACHE_KVSTORE_SSD_SEGMENT_IO_H_
#define FORECACHE_KVSTORE_SSD_SEGMENT_IO_H_

#include <atomic>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "kvstore/ssd/disk.h"
#include "kvstore/ssd/segment_record.h"
#include "kvstore/ssd/ssd_metrics.h"

namespace forecache {

// The place of one copy of a segment.  Its extents are its own while anybody
// holds it; then they are given back.
//
// Threads: safe to call from any thread.
struct SsdPlace {
  using GiveBack = std::function<void(std::vector<uint32_t> extents)>;

  SsdPlace(SegmentRecord record, GiveBack give_back)
      : record(std::move(record)),
        layout(this->record),
        give_back(std::move(give_back)) {}
  ~SsdPlace() { give_back(std::move(record.extents)); }

  SegmentRecord record;
  const SegmentLayout layout;
  const GiveBack give_back;
};

// Batches of reads and writes, each in a lane: a queue and memory for pages.
//
// Threads: safe to call from any thread; a lane by one at a time.
// Lifetime: the file and the metrics outlive it.
class SegmentIo {
 public:
  struct Lane {
    explicit Lane(std::unique_ptr<DiskQueue> queue) : queue(std::move(queue)) {}
    PageBuffer buffer{kSsdLaneBytes};
    std::vector<DiskOp> ops;
    std::unique_ptr<DiskQueue> queue;  // goes before what it works on
  };
  struct ReturnLane {
    SegmentIo* io;
    void operator()(Lane* lane) const { io->Return(lane); }
  };
  using LaneRef = std::unique_ptr<Lane, ReturnLane>;

  // REQUIRES: extent_bytes is a multiple of kSsdPageBytes.
  SegmentIo(DiskFile* file, size_t extent_bytes, SsdMetrics* metrics)
      : file_(file), extent_bytes_(extent_bytes), metrics_(metrics) {}

  // Waits while all kSsdLanesMax are taken.  A thread that has one must not
  // ask for another.
  LaneRef TakeLane();

  // Adds the operations that move bytes [offset, offset + bytes) of a segment.
  // REQUIRES: whole pages.
  void Append(const SsdPlace& place, DiskOp::Kind kind, size_t offset,
              size_t bytes, std::byte* data, std::vector<DiskOp>* ops) const;
  // Reads them now.
  absl::Status Read(const SsdPlace& place, size_t offset, size_t bytes,
                    std::byte* data);
  // The first error, counted.
  absl::Status Check(std::span<const DiskOp> ops) const;

  // Lanes taken: somebody waits for the disk.
  int loads() const { return loads_.load(std::memory_order_relaxed); }
  DiskFile* file() const { return file_; }

 private:
  void Return(Lane* lane);

  DiskFile* const file_;
  const size_t extent_bytes_;
  SsdMetrics* const metrics_;
  std::atomic<int> loads_{0};
  absl::Mutex mu_;
  int lanes_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<std::unique_ptr<Lane>> idle_ ABSL_GUARDED_BY(mu_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_SEGMENT_IO_H_
