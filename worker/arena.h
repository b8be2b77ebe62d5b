// The worker's bounded fast memory: slots of one block each.
//
// On a GPU this is device memory; without one, a host arena plays its part, at
// the same size and with the same rules.  Nothing of a context's KV stays in
// the worker outside an arena.
#ifndef FORECACHE_WORKER_ARENA_H_
#define FORECACHE_WORKER_ARENA_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/bytes.h"
#include "kernels/attention.h"
#include "kvstore/geometry.h"

namespace forecache {

// A slot that was given out, and which giving-out it was: a block that was
// sent for an earlier one must not land.
struct SlotLease {
  int32_t slot = -1;
  uint32_t generation = 0;
};

// Fixed slots for K and V of one block, and who has them.
//
// Threads: Allocate, Free and the counters from any thread; the bytes of a
// slot belong to whoever holds its lease.
class DeviceArena {
 public:
  virtual ~DeviceArena() = default;

  // kResourceExhausted when every slot is given out: says how many there are.
  virtual absl::StatusOr<SlotLease> Allocate() = 0;
  // REQUIRES: `lease` is held.
  virtual void Free(const SlotLease& lease) = 0;

  // Copies a whole block in.  The bytes are there when it returns.
  virtual void WriteBlock(int32_t slot, ByteView k, ByteView v) = 0;
  // Writes tokens [first_token, first_token + count) of a block from f32
  // rows, `row_stride` floats apart, rounding to the arena's KV type.
  virtual void WriteTokens(int32_t slot, int first_token, int count,
                           const float* k, const float* v,
                           size_t row_stride) = 0;
  // The block's bytes, in host memory: K part, then V part.
  virtual ByteView ReadBlock(int32_t slot) const = 0;

  // For the kernels.
  virtual SlotMemory memory() const = 0;

  virtual int slots() const = 0;
  virtual int slots_in_use() const = 0;
  virtual size_t slot_bytes() const = 0;
};

// The twin in host memory.
//
// Threads: as DeviceArena.
class HostArena : public DeviceArena {
 public:
  // kResourceExhausted when the memory cannot be had; kInvalidArgument when
  // `slots` is not positive.
  static absl::StatusOr<std::unique_ptr<HostArena>> Create(
      const KvGeometry& geometry, int slots);
  ~HostArena() override;

  absl::StatusOr<SlotLease> Allocate() override;
  void Free(const SlotLease& lease) override;
  void WriteBlock(int32_t slot, ByteView k, ByteView v) override;
  void WriteTokens(int32_t slot, int first_token, int count, const float* k,
                   const float* v, size_t row_stride) override;
  ByteView ReadBlock(int32_t slot) const override;
  SlotMemory memory() const override;
  int slots() const override { return slots_; }
  int slots_in_use() const override;
  size_t slot_bytes() const override { return geometry_.BlockBytes(); }

 private:
  HostArena(const KvGeometry& geometry, int slots, std::byte* base);

  const KvGeometry geometry_;
  const int slots_;
  std::byte* const base_;
  mutable absl::Mutex mutex_;
  std::vector<int32_t> free_ ABSL_GUARDED_BY(mutex_);
  // Odd while given out.
  std::vector<uint32_t> generations_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_ARENA_H_
