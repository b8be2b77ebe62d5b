#include "kvstore/ssd/segment_io.h"

#include <algorithm>

#include "common/check.h"
#include "common/status.h"

namespace forecache {

SegmentIo::LaneRef SegmentIo::TakeLane() {
  ++loads_;
  std::unique_ptr<Lane> lane;
  {
    absl::MutexLock lock(&mu_);
    mu_.Await(absl::Condition(
        +[](SegmentIo* io) ABSL_NO_THREAD_SAFETY_ANALYSIS {
          return !io->idle_.empty() || io->lanes_ < kSsdLanesMax;
        },
        this));
    if (idle_.empty()) {
      ++lanes_;
    } else {
      lane = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (lane == nullptr) {
    lane = std::make_unique<Lane>(file_->NewQueue(kSsdQueueDepth));
  }
  return LaneRef(lane.release(), ReturnLane{this});
}

void SegmentIo::Return(Lane* lane) {
  lane->queue->Wait();
  lane->ops.clear();
  --loads_;
  absl::MutexLock lock(&mu_);
  idle_.emplace_back(lane);
}

void SegmentIo::Append(const SsdPlace& place, DiskOp::Kind kind, size_t offset,
                       size_t bytes, std::byte* data,
                       std::vector<DiskOp>* ops) const {
  FC_CHECK(offset % kSsdPageBytes == 0 && bytes % kSsdPageBytes == 0);
  while (bytes > 0) {
    const size_t extent = offset / extent_bytes_;
    const size_t within = offset % extent_bytes_;
    const size_t count = std::min(bytes, extent_bytes_ - within);
    DiskOp op;
    op.kind = kind;
    op.offset = place.record.extents.at(extent) * extent_bytes_ + within;
    op.data = data;
    op.bytes = count;
    ops->push_back(std::move(op));
    offset += count;
    data += count;
    bytes -= count;
  }
}

absl::Status SegmentIo::Read(const SsdPlace& place, size_t offset,
                             size_t bytes, std::byte* data) {
  LaneRef lane = TakeLane();
  Append(place, DiskOp::Kind::kRead, offset, bytes, data, &lane->ops);
  lane->queue->Start(lane->ops);
  lane->queue->Wait();
  return Check(lane->ops);
}

absl::Status SegmentIo::Check(std::span<const DiskOp> ops) const {
  absl::Status first;
  for (const DiskOp& op : ops) {
    const bool is_read = op.kind == DiskOp::Kind::kRead;
    if (op.status.ok()) {
      (is_read ? metrics_->read_bytes : metrics_->written_bytes)
          ->Add(static_cast<double>(op.bytes));
      continue;
    }
    (is_read ? metrics_->read_errors : metrics_->write_errors)->Add();
    if (first.ok()) first = Annotate(op.status, "ssd");
  }
  return first;
}

}  // namespace forecache
