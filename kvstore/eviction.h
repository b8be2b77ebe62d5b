// Which segment to give up next.
#ifndef FORECACHE_KVSTORE_EVICTION_H_
#define FORECACHE_KVSTORE_EVICTION_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <unordered_map>

#include "kvstore/segment_id.h"

namespace forecache {

// An EvictionPolicy ranks the segments of one index.  The index tells it which
// of them may go now (unpinned leaves); it says which one goes first.
//
// Threads: one at a time; the index's owner locks.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  // A segment appears, not evictable yet.  It counts as used now.
  virtual void Insert(const SegmentId& id) = 0;
  virtual void Erase(const SegmentId& id) = 0;
  // A segment was used (found by a session).
  virtual void Touch(const SegmentId& id) = 0;
  virtual void SetEvictable(const SegmentId& id, bool evictable) = 0;
  // The evictable segment to give up first.
  virtual std::optional<SegmentId> Victim() const = 0;
};

// The least recently used goes first.
//
// Threads: as EvictionPolicy.
class LruEviction : public EvictionPolicy {
 public:
  void Insert(const SegmentId& id) override;
  void Erase(const SegmentId& id) override;
  void Touch(const SegmentId& id) override;
  void SetEvictable(const SegmentId& id, bool evictable) override;
  std::optional<SegmentId> Victim() const override;

 private:
  struct Entry {
    uint64_t used = 0;  // ticks of this policy
    bool evictable = false;
  };
  uint64_t tick_ = 0;
  std::unordered_map<SegmentId, Entry, SegmentIdHash> entries_;
  std::map<uint64_t, SegmentId> evictable_;  // by the tick of the last use
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_H_
