#include "kvstore/dram_arena.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace forecache {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

size_t RoundUp(size_t value, size_t unit) {
  return (value + unit - 1) / unit * unit;
}

// The kernel accepts the advice even where it will not follow it.
std::string AdviseHugePages(void* base, size_t bytes) {
  if (madvise(base, bytes, MADV_HUGEPAGE) != 0) {
    return absl::StrCat("refused: ", std::strerror(errno));
  }
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string mode;
  std::getline(file, mode);
  if (mode.find("[always]") != std::string::npos) return "always";
  if (mode.find("[madvise]") != std::string::npos) return "madvise";
  return mode.empty() ? "unknown" : "off on this system";
}

}  // namespace

absl::StatusOr<std::unique_ptr<DramArena>> DramArena::Create(
    size_t capacity_bytes) {
  if (capacity_bytes < kPageBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("arena of ", capacity_bytes, " bytes: less than a page"));
  }
  size_t capacity = capacity_bytes / kPageBytes * kPageBytes;
  size_t mapped = RoundUp(capacity, kHugePageBytes) + kHugePageBytes;
  void* mapping = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "arena: cannot map ", capacity, " bytes: ", std::strerror(errno)));
  }
  auto* base = reinterpret_cast<std::byte*>(
      RoundUp(reinterpret_cast<uintptr_t>(mapping), kHugePageBytes));
  std::string huge_pages = AdviseHugePages(base, capacity);
  return std::unique_ptr<DramArena>(
      new DramArena(mapping, mapped, base, capacity, std::move(huge_pages)));
}

DramArena::DramArena(void* mapping, size_t mapped, std::byte* base,
                     size_t capacity, std::string huge_pages)
    : mapping_(mapping),
      mapped_(mapped),
      base_(base),
      capacity_(capacity),
      huge_pages_(std::move(huge_pages)) {
  absl::MutexLock lock(&mu_);
  AddFree(0, capacity_);
}

DramArena::~DramArena() {
  {
    absl::MutexLock lock(&mu_);
    FC_CHECK(used_ == 0) << used_ << " bytes are still in use";
  }
  munmap(mapping_, mapped_);
}

void DramArena::Prefault() {
  for (size_t offset = 0; offset < capacity_; offset += kPageBytes) {
    // Volatile, since writing zeros over zeros could be left out.
    *static_cast<volatile std::byte*>(base_ + offset) = std::byte{0};
  }
}

void DramArena::AddFree(size_t offset, size_t bytes) {
  free_by_offset_.emplace(offset, bytes);
  free_by_size_.emplace(bytes, offset);
}

void DramArena::RemoveFree(size_t offset, size_t bytes) {
  free_by_offset_.erase(offset);
  free_by_size_.erase({bytes, offset});
}

absl::StatusOr<Extent> DramArena::Allocate(size_t bytes) {
  FC_CHECK(bytes > 0);
  if (bytes <= capacity_) {
    size_t wanted = RoundUp(bytes, kPageBytes);
    absl::MutexLock lock(&mu_);
    auto best = free_by_size_.lower_bound({wanted, 0});
    if (best != free_by_size_.end()) {
      auto [size, offset] = *best;
      RemoveFree(offset, size);
      if (size > wanted) AddFree(offset + wanted, size - wanted);
      used_ += wanted;
      return Extent{offset, wanted};
    }
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("arena: no free extent of ", bytes, " bytes"));
}

void DramArena::Free(const Extent& extent) {
  if (extent.bytes == 0) return;
  absl::MutexLock lock(&mu_);
  FC_CHECK(extent.bytes <= used_ && extent.offset + extent.bytes <= capacity_);
  used_ -= extent.bytes;
  size_t offset = extent.offset;
  size_t bytes = extent.bytes;
  auto next = free_by_offset_.lower_bound(offset);
  if (next != free_by_offset_.end()) {
    FC_CHECK(offset + bytes <= next->first) << "extent freed twice";
    if (offset + bytes == next->first) {
      size_t next_bytes = next->second;
      RemoveFree(offset + bytes, next_bytes);
      bytes += next_bytes;
    }
  }
  auto previous = free_by_offset_.lower_bound(offset);
  if (previous != free_by_offset_.begin()) {
    --previous;
    size_t previous_offset = previous->first;
    size_t previous_bytes = previous->second;
    FC_CHECK(previous_offset + previous_bytes <= offset)
        << "extent freed twice";
    if (previous_offset + previous_bytes == offset) {
      RemoveFree(previous_offset, previous_bytes);
      offset = previous_offset;
      bytes += previous_bytes;
    }
  }
  AddFree(offset, bytes);
}

size_t DramArena::used_bytes() const {
  absl::MutexLock lock(&mu_);
  return used_;
}

size_t DramArena::largest_free_bytes() const {
  absl::MutexLock lock(&mu_);
  return free_by_size_.empty() ? 0 : free_by_size_.rbegin()->first;
}

}  // namespace forecache
