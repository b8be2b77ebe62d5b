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
// its children are gone.
//
// Threads: as EvictionPolicy.
class S3FifoEviction : public EvictionPolicy {
 public:
  void Arrive(const PrefixRequest& request) override {}
  void Insert(const SegmentId& id) override;
  void Erase(const SegmentId& id) override;
  void Touch(const SegmentId& id) override;
  void SetEvictable(const SegmentId& id, bool evictable) override;
  bool Admit(const SegmentId& id) override { return true; }
  std::optional<SegmentId> Victim() override;

 private:
  struct Entry {
    uint64_t place = 0;  // in its queue: ticks of this policy
    uint8_t uses = 0;    // since it was queued, as far as kUsesMax
    bool main = false;
    bool evictable = false;
  };
  using Queue = std::map<uint64_t, SegmentId>;  // by place

  Queue& QueueOf(const Entry& entry) { return entry.main ? main_ : small_; }
  // Puts an evictable entry at the end of the main queue.
  void MoveToMain(const SegmentId& id, Entry* entry, uint8_t uses);
  void Remember(const SegmentId& id);

  uint64_t tick_ = 0;
  std::unordered_map<SegmentId, Entry, SegmentIdHash> entries_;
  size_t small_size_ = 0;  // entries of the small queue, evictable or not
  Queue small_, main_;     // their evictable entries
  // What left by the small queue: by the tick when it left, and back.
  Queue ghosts_;
  std::unordered_map<SegmentId, uint64_t, SegmentIdHash> ghost_ticks_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_S3FIFO_H_
