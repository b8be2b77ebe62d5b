#include "kvstore/segment.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/status.h"
#include "kernels/code_scan.h"
#include "kernels/value_plane.h"

namespace forecache {
namespace {

size_t Planes(const KvGeometry& geometry) {
  return size_t{1} * geometry.layers * geometry.kv_heads;
}

constexpr size_t kLineBytes = 64;

// Copies a part, and asks for the one that follows line by line as it goes.
// Parts of a fetch lie far apart, where a copy alone waits for memory at each
// one's start: 5 to 8 GB/s instead of 13 on one core of an EPYC.  Into the
// second-level cache: see kernels/cpu/code_scan.h.
void CopyPart(std::byte* to, const std::byte* from, size_t bytes,
              const std::byte* next) {
  if (next == nullptr) {
    std::memcpy(to, from, bytes);
    return;
  }
  for (size_t i = 0; i < bytes; i += kLineBytes) {
    __builtin_prefetch(next + i, 0, 2);
    std::memcpy(to + i, from + i, kLineBytes);
  }
}

}  // namespace

size_t Segment::OpenBytes(const KvGeometry& geometry) {
  return geometry.SegmentBytes() +
         Planes(geometry) * kSegmentBlocks * sizeof(wire::PartChecksums);
}

// Kernels want planes at cache lines.
size_t Segment::CodeStride(const KvGeometry& geometry, CodeKind code_kind) {
  return (CodePlaneBytes(code_kind, geometry.head_dim) + 63) / 64 * 64;
}

size_t Segment::ValueStride(const KvGeometry& geometry) {
  return (ValuePlaneBytes(geometry.head_dim) + 63) / 64 * 64;
}

size_t Segment::CodeBytes(const KvGeometry& geometry, CodeKind code_kind) {
  return Planes(geometry) *
         (CodeStride(geometry, code_kind) + ValueStride(geometry));
}

absl::StatusOr<std::shared_ptr<Segment>> Segment::Create(
    DramArena* arena, const KvGeometry& geometry, CodeKind code_kind) {
  FC_ASSIGN_OR_RETURN(Extent planes, arena->Allocate(OpenBytes(geometry)));
  return std::shared_ptr<Segment>(
      new Segment(arena, geometry, code_kind, planes));
}

Segment::Segment(DramArena* arena, const KvGeometry& geometry,
                 CodeKind code_kind, Extent planes)
    : arena_(arena),
      geometry_(geometry),
      code_kind_(code_kind),
      planes_(planes),
      states_(new std::atomic<uint8_t>[geometry.layers * kSegmentBlocks]()) {}

Segment::~Segment() {
  arena_->Free(planes_);
  arena_->Free(codes_);
}

std::byte* Segment::Part(int layer, int kv_head, int block, bool value) const {
  size_t plane = size_t{1} * layer * geometry_.kv_heads + kv_head;
  if (value) plane += Planes(geometry_);
  return arena_->At(planes_) + plane * geometry_.PlaneBytes() +
         block * geometry_.PartBytes();
}

wire::PartChecksums* Segment::Checksums(int layer, int kv_head,
                                        int block) const {
  auto* first = reinterpret_cast<wire::PartChecksums*>(
      arena_->At(planes_) + geometry_.SegmentBytes());
  size_t plane = size_t{1} * layer * geometry_.kv_heads + kv_head;
  return first + plane * kSegmentBlocks + block;
}

absl::Status Segment::PutBlock(int layer, int block,
                               const BlockSource& source) {
  FC_CHECK(layer >= 0 && layer < geometry_.layers) << layer;
  FC_CHECK(block >= 0 && block < kSegmentBlocks) << block;
  if (sealed()) {
    return absl::FailedPreconditionError("the segment is sealed");
  }
  uint8_t expected = kAbsent;
  if (State(layer, block)
          .compare_exchange_strong(expected, kWriting,
                                   std::memory_order_acquire)) {
    Write(layer, block, source);
    return absl::OkStatus();
  }
  for (int head = 0; expected == kPresent && head < geometry_.kv_heads;
       ++head) {
    if (std::memcmp(Checksums(layer, head, block),
                    source.checksums + head * source.checksums_stride,
                    sizeof(wire::PartChecksums)) != 0) {
      return absl::AlreadyExistsError("the block holds other bytes");
    }
  }
  if (expected == kPresent && Intact(layer, block)) return absl::OkStatus();
  if (expected == kPresent &&
      State(layer, block)
          .compare_exchange_strong(expected, kWriting,
                                   std::memory_order_acquire)) {
    Write(layer, block, source);
    return absl::OkStatus();
  }
  return absl::AbortedError("the block is being put by another request");
}

// REQUIRES: the caller moved the block's state to kWriting.
void Segment::Write(int layer, int block, const BlockSource& source) {
  const size_t part = geometry_.PartBytes();
  for (int head = 0; head < geometry_.kv_heads; ++head) {
    std::memcpy(Checksums(layer, head, block),
                source.checksums + head * source.checksums_stride,
                sizeof(wire::PartChecksums));
    std::memcpy(Part(layer, head, block, false),
                source.k + head * source.part_stride, part);
    std::memcpy(Part(layer, head, block, true),
                source.v + head * source.part_stride, part);
  }
  State(layer, block).store(kPresent, std::memory_order_release);
}

bool Segment::Intact(int layer, int block) const {
  const size_t part = geometry_.PartBytes();
  for (int head = 0; head < geometry_.kv_heads; ++head) {
    const wire::PartChecksums& want = *Checksums(layer, head, block);
    if (Crc32c({Part(layer, head, block, false), part}) != want.k ||
        Crc32c({Part(layer, head, block, true), part}) != want.v) {
      return false;
    }
  }
  return true;
}

absl::Status Segment::Verify() {
  for (int layer = 0; layer < geometry_.layers; ++layer) {
    for (int block = 0; block < kSegmentBlocks; ++block) {
      if (State(layer, block).load(std::memory_order_acquire) != kPresent) {
        return absl::FailedPreconditionError(
            absl::StrCat("block ", block, " of layer ", layer,
                         " of the segment is missing"));
      }
      if (Intact(layer, block)) continue;
      State(layer, block).store(kAbsent, std::memory_order_release);
      return absl::DataLossError(
          absl::StrCat("block ", block, " of layer ", layer,
                       " does not match its checksum: put it again"));
    }
  }
  return absl::OkStatus();
}

absl::Status Segment::Seal() {
  FC_CHECK(!sealed());
  FC_ASSIGN_OR_RETURN(codes_,
                      arena_->Allocate(CodeBytes(geometry_, code_kind_)));
  std::byte* code_plane = arena_->At(codes_);
  std::byte* value_plane =
      code_plane + Planes(geometry_) * CodeStride(geometry_, code_kind_);
  for (int layer = 0; layer < geometry_.layers; ++layer) {
    for (int head = 0; head < geometry_.kv_heads; ++head) {
      EncodeCodePlane(code_kind_, Part(layer, head, 0, false), geometry_.type,
                      geometry_.head_dim, code_plane);
      code_plane += CodeStride(geometry_, code_kind_);
      EncodeValuePlane(Part(layer, head, 0, false), Part(layer, head, 0, true),
                       geometry_.type, geometry_.head_dim, value_plane);
      value_plane += ValueStride(geometry_);
    }
  }
  sealed_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

uint16_t Segment::Present(int layer) const {
  uint16_t mask = 0;
  for (int block = 0; block < kSegmentBlocks; ++block) {
    if (State(layer, block).load(std::memory_order_acquire) == kPresent) {
      mask |= uint16_t{1} << block;
    }
  }
  return mask;
}

void Segment::Read(int layer, std::span<BlockRead> reads) const {
  const size_t part = geometry_.PartBytes();
  for (BlockRead& read : reads) {
    if (State(layer, read.block).load(std::memory_order_acquire) != kPresent) {
      read.status = wire::BlockStatus::kNotFound;
      continue;
    }
    CopyPart(read.k, Part(layer, read.kv_head, read.block, false), part,
             read.next.k);
    CopyPart(read.v, Part(layer, read.kv_head, read.block, true), part,
             read.next.v);
    // The copies are what leaves, so the copies are what is checked.
    read.checksums = *Checksums(layer, read.kv_head, read.block);
    bool intact = Crc32c({read.k, part}) == read.checksums.k &&
                  Crc32c({read.v, part}) == read.checksums.v;
    read.status =
        intact ? wire::BlockStatus::kOk : wire::BlockStatus::kDataLoss;
  }
}

ByteView Segment::KeyPlane(int layer, int kv_head) const {
  return {Part(layer, kv_head, 0, false), geometry_.PlaneBytes()};
}

ByteView Segment::CodePlane(int layer, int kv_head) const {
  if (!sealed()) return {};
  size_t plane = size_t{1} * layer * geometry_.kv_heads + kv_head;
  return {arena_->At(codes_) + plane * CodeStride(geometry_, code_kind_),
          CodePlaneBytes(code_kind_, geometry_.head_dim)};
}

ByteView Segment::ValuePlane(int layer, int kv_head) const {
  if (!sealed()) return {};
  const size_t plane = size_t{1} * layer * geometry_.kv_heads + kv_head;
  return {arena_->At(codes_) +
              Planes(geometry_) * CodeStride(geometry_, code_kind_) +
              plane * ValueStride(geometry_),
          ValuePlaneBytes(geometry_.head_dim)};
}

absl::Status Segment::CorruptForTest(int layer, int kv_head, int block,
                                     bool value_part, uint32_t bit) const {
  if (bit >= geometry_.PartBytes() * 8) {
    return absl::InvalidArgumentError(
        absl::StrCat("bit is ", bit, ", must be below ",
                     geometry_.PartBytes() * 8));
  }
  if (State(layer, block).load(std::memory_order_acquire) != kPresent) {
    return absl::NotFoundError("the block is not held");
  }
  Part(layer, kv_head, block, value_part)[bit / 8] ^=
      std::byte{1} << (bit % 8);
  return absl::OkStatus();
}

}  // namespace forecache
