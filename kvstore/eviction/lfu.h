// The least often used goes first; of equals, the least recently used.
#ifndef FORECACHE_KVSTORE_EVICTION_LFU_H_
#define FORECACHE_KVSTORE_EVICTION_LFU_H_

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "kvstore/eviction/policy.h"

namespace forecache {

// Counts uses while a segment is held; what comes back starts anew.
//
// Threads: as EvictionPolicy.
class LfuEviction : public EvictionPolicy {
 public:
  void Arrive(const PrefixRequest& request) override {}
  void Insert(const SegmentId& id) override;
  void Erase(const SegmentId& id) override;
  void Touch(const SegmentId& id) override;
  void SetEvictable(const SegmentId& id, bool evictable) override;
  bool Admit(const SegmentId& id) override { return true; }
  std::optional<SegmentId> Victim() override;

 private:
  using Rank = std::pair<uint64_t, uint64_t>;  // uses, tick of the last
  struct Entry {
    Rank rank;
    bool evictable = false;
  };
  uint64_t tick_ = 0;
  std::unordered_map<SegmentId, Entry, SegmentIdHash> entries_;
  std::map<Rank, SegmentId> evictable_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_LFU_H_
