#include "worker/arena.h"

#include <sys/mman.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace forecache {

absl::StatusOr<std::unique_ptr<HostArena>> HostArena::Create(
    const KvGeometry& geometry, int slots) {
  if (slots <= 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("arena: slots is ", slots, ", must be positive"));
  }
  const size_t bytes = geometry.BlockBytes() * slots;
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "arena: no ", bytes, " bytes of memory: choose a smaller --arena-mib"));
  }
  madvise(base, bytes, MADV_HUGEPAGE);  // advice: fewer TLB misses
  return std::unique_ptr<HostArena>(
      new HostArena(geometry, slots, static_cast<std::byte*>(base)));
}

HostArena::HostArena(const KvGeometry& geometry, int slots, std::byte* base)
    : geometry_(geometry), slots_(slots), base_(base) {
  free_.reserve(slots);
  for (int slot = slots - 1; slot >= 0; --slot) free_.push_back(slot);
  generations_.assign(slots, 0);
}

HostArena::~HostArena() { munmap(base_, geometry_.BlockBytes() * slots_); }

absl::StatusOr<SlotLease> HostArena::Allocate() {
  absl::MutexLock lock(&mutex_);
  if (free_.empty()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("arena: all ", slots_,
                     " slots are in use: raise --arena-mib or lower the "
                     "request's budget"));
  }
  const int32_t slot = free_.back();
  free_.pop_back();
  return SlotLease{slot, ++generations_[slot]};
}

void HostArena::Free(const SlotLease& lease) {
  absl::MutexLock lock(&mutex_);
  FC_CHECK(lease.slot >= 0 && lease.slot < slots_) << "slot " << lease.slot;
  FC_CHECK(generations_[lease.slot] == lease.generation &&
           lease.generation % 2 == 1)
      << "slot " << lease.slot << " is not held";
  ++generations_[lease.slot];
  free_.push_back(lease.slot);
}

void HostArena::WriteBlock(int32_t slot, ByteView k, ByteView v) {
  const size_t part = geometry_.PartBytes();
  FC_CHECK(k.size() == part && v.size() == part) << k.size();
  std::byte* at = base_ + slot * geometry_.BlockBytes();
  std::memcpy(at, k.data(), part);
  std::memcpy(at + part, v.data(), part);
}

void HostArena::WriteTokens(int32_t slot, int first_token, int count,
                            const float* k, const float* v,
                            size_t row_stride) {
  FC_CHECK(first_token >= 0 && first_token + count <= kBlockTokens);
  const int d = geometry_.head_dim;
  auto* keys = reinterpret_cast<uint16_t*>(base_ + slot * slot_bytes()) +
               size_t{static_cast<size_t>(first_token)} * d;
  auto* values = keys + geometry_.PartBytes() / sizeof(uint16_t);
  for (int token = 0; token < count; ++token) {
    for (int c = 0; c < d; ++c) {
      keys[token * d + c] = FloatToKv(geometry_.type, k[c]);
      values[token * d + c] = FloatToKv(geometry_.type, v[c]);
    }
    k += row_stride;
    v += row_stride;
  }
}

ByteView HostArena::ReadBlock(int32_t slot) const {
  return {base_ + slot * geometry_.BlockBytes(), geometry_.BlockBytes()};
}

SlotMemory HostArena::memory() const {
  return {.base = base_,
          .slot_stride = geometry_.BlockBytes(),
          .v_offset = geometry_.PartBytes(),
          .type = geometry_.type,
          .head_dim = geometry_.head_dim};
}

int HostArena::slots_in_use() const {
  absl::MutexLock lock(&mutex_);
  return slots_ - static_cast<int>(free_.size());
}

}  // namespace forecache
