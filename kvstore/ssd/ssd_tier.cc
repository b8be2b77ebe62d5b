#include "kvstore/ssd/ssd_tier.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/status.h"

namespace forecache {
namespace {

// All sealed in this process have them.
bool HasValuePlanes(const SegmentView& segment) {
  return !segment.ValuePlane(0, 0).empty();
}

}  // namespace

SsdTier::SsdTier(std::unique_ptr<Disk> disk, DramArena* arena,
                 Metrics* metrics)
    : disk_(std::move(disk)), arena_(arena), metrics_(metrics) {}

SsdTier::~SsdTier() = default;

std::shared_ptr<SsdTier::Held> SsdTier::Find(const SegmentId& id) const {
  absl::MutexLock lock(&mu_);
  auto found = held_.find(id);
  return found == held_.end() ? nullptr : found->second;
}

absl::StatusOr<std::shared_ptr<const SegmentView>> SsdTier::Pin(
    const SegmentId& id) {
  std::shared_ptr<Held> held = Find(id);
  if (held == nullptr) {
    return absl::NotFoundError(absl::StrCat("segment ", id.ToHex()));
  }
  absl::MutexLock loading(&held->loading);
  {
    absl::MutexLock lock(&mu_);
    if (auto live = held->live.lock()) return live;
  }
  FC_ASSIGN_OR_RETURN(auto loaded,
                      SsdSegment::Load(held->place, io_.get(), arena_));
  absl::MutexLock lock(&mu_);
  held->live = loaded;
  return loaded;
}

bool SsdTier::IsPinned(const SegmentId& id) const {
  absl::MutexLock lock(&mu_);
  auto found = held_.find(id);
  return found != held_.end() && !found->second->live.expired();
}

absl::Status SsdTier::Drop(const SegmentId& id) {
  std::shared_ptr<Held> dropped;  // goes after the lock, and after its record
  {
    absl::MutexLock lock(&mu_);
    auto found = held_.find(id);
    if (found == held_.end()) {
      return absl::NotFoundError(absl::StrCat("segment ", id.ToHex()));
    }
    dropped = std::move(found->second);
    held_.erase(found);
    dropping_.insert(id);
  }
  absl::Status forgotten = metadata_->Delete(id);
  {
    absl::MutexLock lock(&mu_);
    dropping_.erase(id);
  }
  if (forgotten.ok()) return absl::OkStatus();
  return RecordFailed(forgotten, dropped->place);
}

void SsdTier::AwaitDrop(const SegmentId& id) {
  auto dropped = [&]() ABSL_SHARED_LOCKS_REQUIRED(mu_) {
    return !dropping_.contains(id);
  };
  absl::MutexLock lock(&mu_);
  mu_.Await(absl::Condition(&dropped));
}

absl::Status SsdTier::Put(const SegmentId& id, const SegmentOrigin& origin,
                          std::shared_ptr<Segment> segment) {
  FC_CHECK(segment->sealed());
  return Write(id, origin, *segment, [](size_t) { return true; });
}

absl::Status SsdTier::Failed(const absl::Status& status) {
  if (absl::IsUnavailable(status) || absl::IsResourceExhausted(status) ||
      absl::IsDataLoss(status)) {
    writable_ = false;
  }
  return status;
}

absl::Status SsdTier::RecordFailed(const absl::Status& status,
                                   std::shared_ptr<SsdPlace> place) {
  metrics_.metadata_errors->Add();
  absl::MutexLock lock(&mu_);
  lost_.push_back(std::move(place));
  return Failed(status);
}

absl::Status SsdTier::Revive() {
  absl::MutexLock writing(&write_mu_);
  if (writable()) return absl::OkStatus();
  size_t lost = 0;  // those that come later wait for the next time
  {
    absl::MutexLock lock(&mu_);
    lost = lost_.size();
  }
  FC_RETURN_IF_ERROR(metadata_->Reopen());
  // What failed may be on disk or not, and so may what was not synced: a
  // deletion that is gone would bring back extents that others have.
  std::vector<SegmentId> stale;
  FC_RETURN_IF_ERROR(
      metadata_
          ->ForEach([&](const SegmentRecord& record, uint64_t) {
            const std::shared_ptr<Held> held = Find(record.id);
            if (held == nullptr ||
                held->place->record.generation != record.generation) {
              stale.push_back(record.id);
            }
          })
          .status());
  for (const SegmentId& id : stale) {
    FC_RETURN_IF_ERROR(metadata_->Delete(id));
  }
  FC_RETURN_IF_ERROR(metadata_->Sync());
  FC_RETURN_IF_ERROR(file_->Sync());
  std::vector<std::shared_ptr<SsdPlace>> found;  // goes after the lock
  {
    absl::MutexLock lock(&mu_);
    const auto end = lost_.begin() + static_cast<ptrdiff_t>(lost);
    found.assign(lost_.begin(), end);
    lost_.erase(lost_.begin(), end);
  }
  writable_ = true;
  return absl::OkStatus();
}

SsdPlace::GiveBack SsdTier::GiveBack() {
  return [this](std::vector<uint32_t> extents) {
    absl::MutexLock lock(&mu_);
    freed_.insert(freed_.end(), extents.begin(), extents.end());
  };
}

absl::StatusOr<std::vector<uint32_t>> SsdTier::TakeExtents(size_t count) {
  std::vector<uint32_t> freed;
  {
    absl::MutexLock lock(&mu_);
    if (free_.size() < count) freed.swap(freed_);
  }
  if (!freed.empty()) {
    // The records that named them are gone for good after this.
    absl::Status synced = metadata_->Sync();
    absl::MutexLock lock(&mu_);
    if (!synced.ok()) {
      freed_.insert(freed_.end(), freed.begin(), freed.end());
      metrics_.metadata_errors->Add();
      return Failed(synced);
    }
    free_.insert(freed.begin(), freed.end());
  }
  absl::MutexLock lock(&mu_);
  if (free_.size() < count) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "ssd: ", count, " extents are wanted, ", free_.size(), " are free"));
  }
  std::vector<uint32_t> extents;
  for (size_t i = 0; i < count; ++i) {
    extents.push_back(*free_.begin());
    free_.erase(free_.begin());
  }
  return extents;
}

size_t SsdTier::ExtentsOf(const SegmentView& segment) const {
  return SegmentLayout(segment.geometry(), segment.code_kind(),
                       HasValuePlanes(segment))
      .Extents(extent_bytes_);
}

bool SsdTier::HasRoomFor(const SegmentView& segment) const {
  absl::MutexLock lock(&mu_);
  return free_.size() + freed_.size() >= ExtentsOf(segment);
}

bool SsdTier::CouldHold(const SegmentView& segment) const {
  return ExtentsOf(segment) <= extents_;
}

absl::Status SsdTier::Write(const SegmentId& id, const SegmentOrigin& origin,
                            const SegmentView& segment,
                            const WriteGate& gate) {
  absl::MutexLock writing(&write_mu_);
  if (!writable()) {
    return absl::FailedPreconditionError("ssd: the disk failed before");
  }
  if (Find(id) != nullptr) {
    return absl::AlreadyExistsError(absl::StrCat("segment ", id.ToHex()));
  }
  AwaitDrop(id);
  SegmentRecord record;
  record.id = id;
  record.origin = origin;
  record.geometry = segment.geometry();
  record.generation = generation_++;
  record.code_kind = segment.code_kind();
  record.has_value_planes = HasValuePlanes(segment);
  FC_ASSIGN_OR_RETURN(record.extents, TakeExtents(ExtentsOf(segment)));
  auto place = std::make_shared<SsdPlace>(std::move(record), GiveBack());
  FC_RETURN_IF_ERROR(WriteData(segment, gate, place.get()));
  if (absl::Status synced = file_->Sync(); !synced.ok()) {
    metrics_.write_errors->Add();
    return Failed(synced);
  }
  if (absl::Status put = metadata_->Put(place->record, clock_++); !put.ok()) {
    return RecordFailed(put, std::move(place));
  }
  absl::MutexLock lock(&mu_);
  held_.emplace(id, std::make_shared<Held>(std::move(place)));
  return absl::OkStatus();
}

// Two slices take turns: one is filled while the other is written.
absl::Status SsdTier::WriteData(const SegmentView& segment,
                                const WriteGate& gate, SsdPlace* place) {
  struct Slice {
    PageBuffer buffer;
    std::vector<DiskOp> ops;
    std::unique_ptr<DiskQueue> queue;
  };
  const SegmentLayout& layout = place->layout;
  const size_t part = place->record.geometry.PartBytes();
  const size_t plane_bytes = kSegmentBlocks * layout.block_bytes;
  const size_t per_slice = std::max<size_t>(1, extent_bytes_ / plane_bytes);
  std::vector<Slice> slices;
  for (int i = 0; i < kSsdWriteSlices; ++i) {
    slices.push_back({PageBuffer(per_slice * plane_bytes), {},
                      file_->NewQueue(kSsdQueueDepth)});
  }
  auto wait = [&](Slice& slice) {
    slice.queue->Wait();
    absl::Status status = io_->Check(slice.ops);
    slice.ops.clear();
    return Failed(status);
  };
  PageBuffer summary(layout.summary_bytes);
  std::fill_n(summary.data(), summary.size(), std::byte{0});
  std::vector<BlockRead> reads(kSegmentBlocks);
  for (size_t first = 0, turn = 0; first < layout.planes;
       first += per_slice, ++turn) {
    const size_t count = std::min(per_slice, layout.planes - first);
    if (!gate(count * plane_bytes)) return absl::CancelledError("ssd: stopped");
    Slice& slice = slices[turn % slices.size()];
    FC_RETURN_IF_ERROR(wait(slice));
    for (size_t i = 0; i < count; ++i) {
      const int layer = static_cast<int>((first + i) / layout.kv_heads);
      const int head = static_cast<int>((first + i) % layout.kv_heads);
      std::byte* at = slice.buffer.data() + i * plane_bytes;
      for (int b = 0; b < kSegmentBlocks; ++b, at += layout.block_bytes) {
        reads[b] = {head, b, at, at + part};
      }
      segment.Read(layer, reads);
      for (const BlockRead& read : reads) {
        if (read.status != wire::BlockStatus::kOk) {
          return absl::DataLossError(absl::StrCat(
              "block ", read.block, " of layer ", layer, " is damaged"));
        }
        std::memcpy(summary.data() +
                        layout.ChecksumOffset(layer, head, read.block),
                    &read.checksums, sizeof(read.checksums));
      }
      const ByteView codes = segment.CodePlane(layer, head);
      FC_CHECK(!codes.empty() && codes.size() <= layout.code_stride);
      std::ranges::copy(codes, summary.data() + layout.CodeOffset(layer, head));
      const ByteView values = segment.ValuePlane(layer, head);
      FC_CHECK(values.size() <= layout.value_stride);
      std::ranges::copy(values,
                        summary.data() + layout.ValueOffset(layer, head));
    }
    io_->Append(*place, DiskOp::Kind::kWrite, first * plane_bytes,
                count * plane_bytes, slice.buffer.data(), &slice.ops);
    slice.queue->Start(slice.ops);
  }
  for (Slice& slice : slices) FC_RETURN_IF_ERROR(wait(slice));
  if (!gate(layout.summary_bytes)) return absl::CancelledError("ssd: stopped");
  place->record.summary_crc = Crc32c({summary.data(), layout.summary_bytes});
  return WriteSummary(*place, summary.data());
}

absl::Status SsdTier::WriteSummary(const SsdPlace& place, std::byte* summary) {
  std::vector<DiskOp> ops;
  io_->Append(place, DiskOp::Kind::kWrite, place.layout.summary_offset,
              place.layout.summary_bytes, summary, &ops);
  auto queue = file_->NewQueue(kSsdQueueDepth);
  queue->Start(ops);
  queue->Wait();
  return Failed(io_->Check(ops));
}

void SsdTier::Touch(std::span<const SegmentId> ids) {
  if (ids.empty() || !writable()) return;
  std::vector<SegmentId> held;
  for (const SegmentId& id : ids) {
    if (Find(id) != nullptr) held.push_back(id);
  }
  if (metadata_->Touch(held, clock_++).ok()) return;
  metrics_.metadata_errors->Add();  // only the order of eviction suffers
}

std::vector<SegmentId> SsdTier::Ids() const {
  absl::MutexLock lock(&mu_);
  std::vector<SegmentId> ids;
  for (const auto& [id, held] : held_) ids.push_back(id);
  return ids;
}

size_t SsdTier::used_bytes() const {
  absl::MutexLock lock(&mu_);
  return (extents_ - free_.size() - freed_.size()) * extent_bytes_;
}

size_t SsdTier::segments() const {
  absl::MutexLock lock(&mu_);
  return held_.size();
}

}  // namespace forecache
