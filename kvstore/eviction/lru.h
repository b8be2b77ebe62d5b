// The least recently used goes first.
#ifndef FORECACHE_KVSTORE_EVICTION_LRU_H_
#define FORECACHE_KVSTORE_EVICTION_LRU_H_

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>

#include "kvstore/eviction/policy.h"

namespace forecache {

// Threads: as EvictionPolicy.
class LruEviction : public EvictionPolicy {
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
    uint64_t used = 0;  // ticks of this policy
    bool evictable = false;
  };
  uint64_t tick_ = 0;
  std::unordered_map<SegmentId, Entry, SegmentIdHash> entries_;
  std::map<uint64_t, SegmentId> evictable_;  // by the tick of the last use
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_LRU_H_
