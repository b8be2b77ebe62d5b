// Three queues: what is new proves itself in a small one before it may stay.
#ifndef FORECACHE_KVSTORE_EVICTION_S3FIFO_H_
#define FORECACHE_KVSTORE_EVICTION_S3FIFO_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>

#include "kvstore/eviction/policy.h"

namespace forecache {

// S3-FIFO (Yang et al., SOSP 2023), for a tree: only what is evictable is
// looked at, in the order of its queue, so that a parent keeps its place until
// its children are gone.  Each owner has queues of its own; of those that may
// lose a segment, the one whose next has been queued longest does.
//
// Threads: as EvictionPolicy.
class S3FifoEviction : public EvictionPolicy {
 public:
  void Arrive(const PrefixRequest& request) override {}
  void Insert(const SegmentId& id, uint32_t owner, float worth) override;
  void Erase(const SegmentId& id) override;
  void Touch(const SegmentId& id) override;
  void SetEvictable(const SegmentId& id, bool evictable) override;
  bool Admit(const SegmentId& id, float worth) override { return true; }
  std::optional<SegmentId> Victim(const OwnerFilter& may_lose) override;

 private:
  struct Entry {
    uint32_t owner = 0;
    uint64_t place = 0;  // in its queue: ticks of this policy
    uint8_t uses = 0;    // since it was queued, as far as kUsesMax
    bool main = false;
    bool evictable = false;
  };
  using Queue = std::map<uint64_t, SegmentId>;  // by place

  struct Owner {
    size_t size = 0;        // entries of both queues, evictable or not
    size_t small_size = 0;  // of the small one
    Queue small, main;      // their evictable entries
  };

  Owner& OwnerOf(const Entry& entry) { return owners_.at(entry.owner); }
  Queue& QueueOf(const Entry& entry) {
    Owner& owner = OwnerOf(entry);
    return entry.main ? owner.main : owner.small;
  }
  std::optional<SegmentId> VictimOf(Owner& owner);
  // Puts an evictable entry at the end of the main queue.
  void MoveToMain(const SegmentId& id, Entry* entry, uint8_t uses);
  void Remember(const SegmentId& id);

  uint64_t tick_ = 0;
  std::unordered_map<SegmentId, Entry, SegmentIdHash> entries_;
  std::unordered_map<uint32_t, Owner> owners_;  // that hold anything
  // What left by the small queue: by the tick when it left, and back.
  Queue ghosts_;
  std::unordered_map<SegmentId, uint64_t, SegmentIdHash> ghost_ticks_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_S3FIFO_H_
