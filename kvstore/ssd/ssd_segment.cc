#include "kvstore/ssd/ssd_segment.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/status.h"

namespace forecache {
namespace {

// The pages that bytes [begin, end) lie in.
struct Pages {
  Pages(size_t begin, size_t end)
      : begin(begin / kSsdPageBytes * kSsdPageBytes),
        end((end + kSsdPageBytes - 1) / kSsdPageBytes * kSsdPageBytes) {}
  size_t bytes() const { return end - begin; }
  size_t begin, end;
};

// Blocks of any segments of one tier, read through one lane.
class SsdReads : public PendingReads {
 public:
  explicit SsdReads(SegmentIo* io) : io_(io), lane_(io->TakeLane()) {}

  // Starts reads of one layer.  Neighbours are read by one operation.
  void Add(const SsdSegment& segment, int layer, std::span<BlockRead> reads) {
    const SegmentLayout& layout = segment.place().layout;
    Pages range(0, 0);
    for (BlockRead& read : reads) {
      const size_t at = layout.BlockOffset(layer, read.kv_head, read.block);
      const Pages pages(at, at + layout.block_bytes);
      const bool joins = range.bytes() > 0 && pages.begin >= range.begin &&
                         pages.begin <= range.end;
      const size_t end = joins ? std::max(range.end, pages.end) : pages.end;
      const size_t more = joins ? end - range.end : pages.bytes();
      if (used_ + more > lane_->buffer.size()) {
        Start(segment, range);
        Finish();
        range = pages;
        used_ = pages.bytes();
      } else if (joins) {
        range.end = end;
        used_ += more;
      } else {
        Start(segment, range);
        range = pages;
        used_ += more;
      }
      items_.push_back({&read, &segment, layer,
                        used_ - (range.end - at), lane_->ops.size()});
    }
    Start(segment, range);
  }

  void Finish() override {
    lane_->queue->Wait();
    (void)io_->Check(lane_->ops);  // counts; each block has its own status
    for (const Item& item : items_) Take(item);
    items_.clear();
    lane_->ops.clear();
    used_ = 0;
  }

 private:
  struct Item {
    BlockRead* read;
    const SsdSegment* segment;
    int layer;
    size_t at;        // in the lane's buffer
    size_t first_op;  // of its range
  };

  // Starts the operations of a range, which is the last of the buffer.
  void Start(const SsdSegment& segment, const Pages& range) {
    if (range.bytes() == 0) return;
    std::vector<DiskOp>& ops = lane_->ops;
    const size_t first = ops.size();
    std::byte* data = lane_->buffer.data() + used_ - range.bytes();
    // The queue has those before: they must not move.
    if (ops.capacity() < kOpsMax) ops.reserve(kOpsMax);
    io_->Append(segment.place(), DiskOp::Kind::kRead, range.begin,
                range.bytes(), data, &ops);
    FC_CHECK(ops.size() <= kOpsMax) << ops.size();
    lane_->queue->Start(std::span(ops).subspan(first));
  }

  // Whether the pages that an item lies in came.
  bool Came(const Item& item) const {
    const std::byte* begin = lane_->buffer.data() + item.at;
    const std::byte* end = begin + item.segment->place().layout.block_bytes;
    for (size_t i = item.first_op; i < lane_->ops.size(); ++i) {
      const DiskOp& op = lane_->ops[i];
      if (op.data >= end) break;
      if (op.data + op.bytes > begin && !op.status.ok()) return false;
    }
    return true;
  }

  void Take(const Item& item) {
    BlockRead& read = *item.read;
    read.status = wire::BlockStatus::kDataLoss;
    if (!Came(item)) return;
    const size_t part = item.segment->geometry().PartBytes();
    const std::byte* from = lane_->buffer.data() + item.at;
    std::memcpy(read.k, from, part);
    std::memcpy(read.v, from + part, part);
    read.checksums =
        item.segment->Checksums(item.layer, read.kv_head, read.block);
    // The copies are what leaves, so the copies are what is checked.
    if (Crc32c({read.k, part}) == read.checksums.k &&
        Crc32c({read.v, part}) == read.checksums.v) {
      read.status = wire::BlockStatus::kOk;
    }
  }

  // A range has a page of the buffer, and each extent's end parts one more.
  static constexpr size_t kOpsMax = 4 * kSsdLaneBytes / kSsdPageBytes;

  SegmentIo* const io_;
  const SegmentIo::LaneRef lane_;
  std::vector<Item> items_;
  size_t used_ = 0;  // of the lane's buffer
};

}  // namespace

absl::StatusOr<std::shared_ptr<const SsdSegment>> SsdSegment::Load(
    std::shared_ptr<const SsdPlace> place, SegmentIo* io, DramArena* arena) {
  const SegmentLayout& layout = place->layout;
  FC_ASSIGN_OR_RETURN(Extent summary, arena->Allocate(layout.summary_bytes));
  absl::Status status =
      io->Read(*place, layout.summary_offset, layout.summary_bytes,
               arena->At(summary));
  if (status.ok() && Crc32c({arena->At(summary), layout.summary_bytes}) !=
                         place->record.summary_crc) {
    status = absl::DataLossError(
        absl::StrCat("segment ", place->record.id.ToHex(),
                     ": its summary does not match its checksum"));
  }
  if (!status.ok()) {
    arena->Free(summary);
    return status;
  }
  return std::shared_ptr<const SsdSegment>(
      new SsdSegment(std::move(place), io, arena, summary));
}

SsdSegment::~SsdSegment() { arena_->Free(summary_); }

void SsdSegment::Read(int layer, std::span<BlockRead> reads) const {
  SsdReads batch(io_);
  batch.Add(*this, layer, reads);
  batch.Finish();
}

void SsdSegment::StartRead(int layer, std::span<BlockRead> reads,
                           std::unique_ptr<PendingReads>* pending) const {
  if (*pending == nullptr) *pending = std::make_unique<SsdReads>(io_);
  static_cast<SsdReads*>(pending->get())->Add(*this, layer, reads);
}

ByteView SsdSegment::CodePlane(int layer, int kv_head) const {
  return {arena_->At(summary_) + place_->layout.CodeOffset(layer, kv_head),
          place_->layout.code_stride};
}

ByteView SsdSegment::ValuePlane(int layer, int kv_head) const {
  if (!place_->record.has_value_planes) return {};
  return {arena_->At(summary_) + place_->layout.ValueOffset(layer, kv_head),
          place_->layout.value_stride};
}

wire::PartChecksums SsdSegment::Checksums(int layer, int kv_head,
                                          int block) const {
  wire::PartChecksums checksums;
  std::memcpy(&checksums,
              arena_->At(summary_) +
                  place_->layout.ChecksumOffset(layer, kv_head, block),
              sizeof(checksums));
  return checksums;
}

absl::Status SsdSegment::CorruptForTest(int layer, int kv_head, int block,
                                        bool value_part, uint32_t bit) const {
  const size_t part = geometry().PartBytes();
  if (bit >= part * 8) {
    return absl::InvalidArgumentError(
        absl::StrCat("bit is ", bit, ", must be below ", part * 8));
  }
  const size_t at = place_->layout.BlockOffset(layer, kv_head, block) +
                    (value_part ? part : 0) + bit / 8;
  const Pages page(at, at + 1);
  SegmentIo::LaneRef lane = io_->TakeLane();
  for (DiskOp::Kind kind : {DiskOp::Kind::kRead, DiskOp::Kind::kWrite}) {
    lane->ops.clear();
    io_->Append(*place_, kind, page.begin, page.bytes(), lane->buffer.data(),
                &lane->ops);
    lane->queue->Start(lane->ops);
    lane->queue->Wait();
    FC_RETURN_IF_ERROR(io_->Check(lane->ops));
    lane->buffer.data()[at - page.begin] ^= std::byte{1} << (bit % 8);
  }
  return absl::OkStatus();
}

}  // namespace forecache
