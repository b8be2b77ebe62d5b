// The blocks of one session that are in the worker's slots now.
//
// For each (layer, KV head) there is a set of pages: blocks that were fetched
// (or are on their way), and the open block that decoded tokens are appended
// to.  A layer is used by turns: attention reads it, then the data-plane thread
// changes which blocks are resident, while other layers compute.
#ifndef FORECACHE_WORKER_RESIDENT_CACHE_H_
#define FORECACHE_WORKER_RESIDENT_CACHE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "kernels/attention.h"
#include "kvstore/geometry.h"
#include "kvstore/wire.h"
#include "worker/arena.h"

namespace forecache {

// The page tables of one layer, as the kernels take them.  Reused from layer
// to layer, so that building them allocates nothing.
//
// Threads: one thread at a time.
struct LayerTables {
  std::vector<std::vector<int32_t>> slots;   // [kv_heads]
  std::vector<std::vector<int32_t>> blocks;  // [kv_heads], same order
  std::vector<PageTable> tables;             // [kv_heads], views of `slots`
};

// Threads: safe to call from any thread.  A layer's slots are read by attention
// only between BuildTables and the next Retarget of that layer, which the
// prefetcher's gate keeps apart.
// Lifetime: the arena must outlive it.
class ResidentCache {
 public:
  ResidentCache(const KvGeometry& geometry, DeviceArena* arena);
  ~ResidentCache();
  ResidentCache(const ResidentCache&) = delete;
  ResidentCache& operator=(const ResidentCache&) = delete;

  // Makes `wanted` (ascending block numbers) the fetched pages of one head:
  // frees all others, takes slots for the new ones and appends what must be
  // fetched to `missing`.  Blocks known to be lost are left out.
  // kResourceExhausted when the arena is full.
  absl::Status Retarget(int layer, int kv_head,
                        std::span<const int32_t> wanted,
                        std::vector<wire::FetchEntry>* missing);

  // Appends `count` places for blocks of one head that the store will choose.
  // Each ends with FillOffered or TakeBack.  kResourceExhausted as Retarget.
  absl::Status Offer(int layer, int kv_head, int count,
                     std::vector<wire::OfferedSlot>* slots);
  // A block came for an offered place: it is a fetched page from now on.
  // False when the place is gone, or the block is held already.
  bool FillOffered(int layer, const wire::PushEntry& entry, ByteView k,
                   ByteView v);
  // Nothing comes for an offered place.
  void TakeBack(int layer, int kv_head, const wire::OfferedSlot& slot);

  // A fetched block came.  False when nobody waits for it any more: its page
  // went, or its slot belongs to another block now.
  bool Fill(int layer, const wire::PushEntry& entry, ByteView k, ByteView v);

  // A block will not come; it is not asked for again.
  void MarkLost(int layer, const wire::FetchEntry& entry);
  // A block that does not come for now: its store is not there.  Its slot is
  // free, and it may be asked for again.
  void Withdraw(int layer, const wire::FetchEntry& entry);

  // Appends one token at `position` to the open block of every head; opens
  // one first when position starts a block.  `k` and `v` are
  // [kv_heads][head_dim].  REQUIRES: positions follow each other.
  absl::Status Append(int layer, int position, const float* k, const float* v);

  // Takes over the first `tokens` tokens of `block` from another arena's
  // slots, one a head, as the open block.  REQUIRES: no block is open.
  absl::Status AdoptOpenBlock(int layer, int block, int tokens,
                              const DeviceArena& from,
                              std::span<const int32_t> from_slots);

  // The open block is full: it becomes an ordinary page, and its slots, one a
  // head, are returned for writing it to the store.
  std::vector<int32_t> CloseOpenBlock(int layer);

  // The pages that are there, the open block last.  Blocks on their way are
  // left out.
  void BuildTables(int layer, LayerTables* out) const;

  // Blocks of one head that are there, ascending, the open one included.
  void ReadyBlocks(int layer, int kv_head, std::vector<int32_t>* blocks) const;

  // The same, with those on their way, and those that are lost.
  void HeldBlocks(int layer, int kv_head, std::vector<int32_t>* blocks) const;

  // Checks every fetched page against the checksums it came with; returns how
  // many do not match.
  int Audit() const;

  size_t bytes() const;       // slots held now
  size_t peak_bytes() const;  // the most it held
  size_t table_bytes() const;

 private:
  struct Page {
    int32_t block = 0;
    SlotLease lease;
    bool ready = false;
    bool fetched = false;  // has checksums to hold it to
    wire::PartChecksums checksums;
  };
  struct Head {
    std::vector<Page> pages;  // ascending by block
    std::vector<int32_t> lost;
    Page open;  // lease.slot < 0: none
    std::vector<SlotLease> offered;
  };
  struct Layer {
    mutable absl::Mutex mutex;
    std::vector<Head> heads ABSL_GUARDED_BY(mutex);
    int open_tokens ABSL_GUARDED_BY(mutex) = 0;
  };

  // Puts a page for `block`, which is not held, behind the others.
  absl::Status AddPage(Head* head, int kv_head, int32_t block,
                       std::vector<wire::FetchEntry>* missing);
  static void Sort(Head* head, size_t sorted);
  // Ends an offer; false when there is none such.
  static bool EndOffer(Head* head, const wire::OfferedSlot& slot);
  absl::StatusOr<SlotLease> Take();
  void Release(const SlotLease& lease);

  const KvGeometry geometry_;
  DeviceArena* const arena_;
  std::vector<std::unique_ptr<Layer>> layers_;
  std::atomic<int> held_{0};
  std::atomic<int> peak_{0};
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_RESIDENT_CACHE_H_
