// The planes of 256 tokens: all layers, all KV heads.
#ifndef FORECACHE_KVSTORE_SEGMENT_H_
#define FORECACHE_KVSTORE_SEGMENT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "kernels/code_scan.h"
#include "kvstore/dram_arena.h"
#include "kvstore/geometry.h"
#include "kvstore/tenants/account.h"
#include "kvstore/wire.h"

namespace forecache {

// Where the parts of a block lie in memory; null: not there.
struct BlockPlace {
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
};

// One block to read: where its parts go, and what became of it.
struct BlockRead {
  int kv_head = 0;
  int block = 0;           // in the segment, 0..15
  std::byte* k = nullptr;  // PartBytes() each
  std::byte* v = nullptr;
  // What will be read after it: fetched into the cache meanwhile.
  BlockPlace next;
  wire::PartChecksums checksums;  // set when the status is kOk
  wire::BlockStatus status = wire::BlockStatus::kNotFound;
};

// Reads under way, of any number of segments of one tier.
//
// Threads: one thread.
class PendingReads {
 public:
  virtual ~PendingReads() = default;
  // Waits for them, checks them and sets their status.
  virtual void Finish() = 0;
};

// What can be read of a segment.  Whoever holds one by shared_ptr pins it: its
// bytes stay where they are until the last holder lets go.
//
// Threads: safe to call from any thread.
class SegmentView {
 public:
  virtual ~SegmentView() = default;
  virtual const KvGeometry& geometry() const = 0;

  // Bit b is set when block b of `layer` can be read.
  virtual uint16_t Present(int layer) const = 0;

  // Copies blocks of one layer out and checks the copies: a block whose copy
  // does not match its checksum has kDataLoss and must not be used.  A tier on
  // a device starts all the reads before it waits for the first.
  virtual void Read(int layer, std::span<BlockRead> reads) const = 0;
  // The same, but a tier on a device may leave reads under way in `pending`,
  // which it makes when it is null: so those of many segments are under way
  // together.  `reads` stay where they are until Finish.
  virtual void StartRead(int layer, std::span<BlockRead> reads,
                         std::unique_ptr<PendingReads>* pending) const {
    Read(layer, reads);
  }

  // Where a block is in memory, for BlockRead::next.
  virtual BlockPlace Place(int layer, int kv_head, int block) const {
    return {};
  }

  // The K plane [256][head_dim], where it is in memory; else empty.  Only the
  // blocks of Present() mean anything.
  virtual ByteView KeyPlane(int layer, int kv_head) const = 0;
  // The code plane of a sealed segment, always in memory; else empty.
  virtual ByteView CodePlane(int layer, int kv_head) const = 0;
  // Of its code planes.
  virtual CodeKind code_kind() const = 0;
  // Its value plane (kernels/value_plane.h), as CodePlane; empty too where the
  // segment was written before there were any.
  virtual ByteView ValuePlane(int layer, int kv_head) const = 0;

  // Flips a bit of a stored part (StoreAdmin.CorruptBlock).  kNotFound when
  // the block is absent.
  virtual absl::Status CorruptForTest(int layer, int kv_head, int block,
                                      bool value_part, uint32_t bit) const = 0;
};

// The bytes of one block of one layer, all KV heads, somewhere in a message:
// head h's checksums, K and V part are h strides behind head 0's.
struct BlockSource {
  const std::byte* checksums = nullptr;  // of a PartChecksums, any alignment
  size_t checksums_stride = 0;
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;
  size_t part_stride = 0;
};

// A segment in the arena.  It is open at first: blocks are put, each once; then
// it is sealed and never changes again.
//
// Threads: safe to call from any thread; Verify and Seal under a SealClaim.
// Lifetime: the arena outlives it.
class Segment : public SegmentView {
 public:
  // Takes the memory of all K and V planes; Seal makes codes of `code_kind` and
  // value planes.
  // kResourceExhausted when the arena has none.
  static absl::StatusOr<std::shared_ptr<Segment>> Create(
      DramArena* arena, const KvGeometry& geometry, CodeKind code_kind);
  // What Create and Seal take from the arena.
  static size_t OpenBytes(const KvGeometry& geometry);
  static size_t CodeBytes(const KvGeometry& geometry, CodeKind code_kind);
  // From one code plane to the next, and from one value plane to the next.
  static size_t CodeStride(const KvGeometry& geometry, CodeKind code_kind);
  static size_t ValueStride(const KvGeometry& geometry);

  ~Segment() override;
  Segment(const Segment&) = delete;
  Segment& operator=(const Segment&) = delete;

  // Puts block `block` (0..15) of `layer`, whose checksums the caller verified.
  // The same block again is OK, and mends one that was damaged meanwhile.
  // kAlreadyExists when it holds other bytes, kAborted while another thread is
  // putting it, kFailedPrecondition when the segment is sealed.
  absl::Status PutBlock(int layer, int block, const BlockSource& source);

  // Whoever seals holds the claim; there is one.
  //
  // Threads: one thread.
  // Lifetime: the segment outlives it.
  class SealClaim {
   public:
    SealClaim() = default;
    // Not held when another has it.
    explicit SealClaim(Segment* segment)
        : segment_(segment->sealing_.exchange(true) ? nullptr : segment) {}
    SealClaim(SealClaim&& other) noexcept {
      std::swap(segment_, other.segment_);
    }
    SealClaim& operator=(SealClaim&& other) noexcept {
      std::swap(segment_, other.segment_);
      return *this;
    }
    ~SealClaim() {
      if (segment_ != nullptr) segment_->sealing_ = false;
    }
    bool held() const { return segment_ != nullptr; }

   private:
    Segment* segment_ = nullptr;
  };

  // Checks that all blocks are present (kFailedPrecondition names one that is
  // not) and match their checksums (kDataLoss; that block becomes absent, so
  // that it can be put again).
  absl::Status Verify();

  // Computes code and value planes; no block can be put from now on.
  // kResourceExhausted when the arena has no room for them.
  // REQUIRES: a SealClaim, and Verify() was OK.
  absl::Status Seal();
  bool sealed() const { return sealed_.load(std::memory_order_acquire); }

  // What its arena bytes are charged to; changed under a SealClaim, or before
  // anybody else has the segment.
  TierCharge& charge() { return charge_; }

  // Arena bytes that it holds now.
  size_t bytes() const { return planes_.bytes + codes_.bytes; }

  // SegmentView
  const KvGeometry& geometry() const override { return geometry_; }
  uint16_t Present(int layer) const override;
  void Read(int layer, std::span<BlockRead> reads) const override;
  BlockPlace Place(int layer, int kv_head, int block) const override {
    return {Part(layer, kv_head, block, false),
            Part(layer, kv_head, block, true)};
  }
  ByteView KeyPlane(int layer, int kv_head) const override;
  ByteView CodePlane(int layer, int kv_head) const override;
  CodeKind code_kind() const override { return code_kind_; }
  ByteView ValuePlane(int layer, int kv_head) const override;
  absl::Status CorruptForTest(int layer, int kv_head, int block,
                              bool value_part, uint32_t bit) const override;

 private:
  enum BlockState : uint8_t { kAbsent = 0, kWriting = 1, kPresent = 2 };

  Segment(DramArena* arena, const KvGeometry& geometry, CodeKind code_kind,
          Extent planes);

  void Write(int layer, int block, const BlockSource& source);
  bool Intact(int layer, int block) const;
  std::byte* Part(int layer, int kv_head, int block, bool value) const;
  wire::PartChecksums* Checksums(int layer, int kv_head, int block) const;
  std::atomic<uint8_t>& State(int layer, int block) const {
    return states_[layer * kSegmentBlocks + block];
  }

  TierCharge charge_;
  DramArena* const arena_;
  const KvGeometry geometry_;
  const CodeKind code_kind_;
  // K planes [layers][kv_heads], V planes alike, then the checksums.
  const Extent planes_;
  // Once sealed: code planes [layers][kv_heads], then value planes alike.
  Extent codes_;
  std::unique_ptr<std::atomic<uint8_t>[]> states_;  // [layers][16]
  std::atomic<bool> sealed_{false};
  std::atomic<bool> sealing_{false};
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SEGMENT_H_
