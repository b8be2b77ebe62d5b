// One bounded piece of memory that all segments of a store live in.
#ifndef FORECACHE_KVSTORE_DRAM_ARENA_H_
#define FORECACHE_KVSTORE_DRAM_ARENA_H_

#include <cstddef>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/bytes.h"

namespace forecache {

// A piece of the arena.  Whoever got it frees it.
//
// Threads: a value.
struct Extent {
  size_t offset = 0;
  size_t bytes = 0;  // a multiple of the page size; 0 means none
};

// A DramArena maps `capacity_bytes` once and hands out page-aligned extents,
// best fit first; neighbours that are free become one again.
//
// Threads: safe to call from any thread.
// Lifetime: outlives every extent's use.
class DramArena {
 public:
  static constexpr size_t kPageBytes = 4096;

  // Asks for huge pages, and goes on without where there are none.
  // kResourceExhausted when the system refuses the mapping.
  static absl::StatusOr<std::unique_ptr<DramArena>> Create(
      size_t capacity_bytes);
  ~DramArena();
  DramArena(const DramArena&) = delete;
  DramArena& operator=(const DramArena&) = delete;

  // Takes all of the memory from the system at once.  Else every page is taken
  // when it is first written, which a first put pays for: three times its time
  // where no huge pages are to be had.
  // REQUIRES: nothing was allocated yet.
  void Prefault();

  // `bytes` rounded up to whole pages.  The memory holds whatever it held.
  // kResourceExhausted when no free extent is large enough.
  absl::StatusOr<Extent> Allocate(size_t bytes);
  void Free(const Extent& extent);

  std::byte* At(const Extent& extent) const { return base_ + extent.offset; }
  MutableBytes bytes() const { return {base_, capacity_}; }

  size_t capacity_bytes() const { return capacity_; }
  size_t used_bytes() const;
  // The largest extent that Allocate would give now.
  size_t largest_free_bytes() const;
  // What became of the wish for huge pages, for logs.
  const std::string& huge_pages() const { return huge_pages_; }

 private:
  DramArena(void* mapping, size_t mapped, std::byte* base, size_t capacity,
            std::string huge_pages);
  void AddFree(size_t offset, size_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void RemoveFree(size_t offset, size_t bytes)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  void* const mapping_;
  const size_t mapped_;
  std::byte* const base_;
  const size_t capacity_;
  const std::string huge_pages_;
  mutable absl::Mutex mu_;
  size_t used_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<size_t, size_t> free_by_offset_ ABSL_GUARDED_BY(mu_);
  std::set<std::pair<size_t, size_t>> free_by_size_ ABSL_GUARDED_BY(mu_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_DRAM_ARENA_H_
