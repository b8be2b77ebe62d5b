// What LRU and LFU share: segments in the order of a rank, the lowest first.
#ifndef FORECACHE_KVSTORE_EVICTION_RANKED_H_
#define FORECACHE_KVSTORE_EVICTION_RANKED_H_

#include <cstdint>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>

#include "kvstore/eviction/policy.h"

namespace forecache {

// A policy of this kind says only what a use makes of a segment's rank.  Ranks
// end with the use's tick, so no two are equal.
//
// Threads: as EvictionPolicy.
class RankedEviction : public EvictionPolicy {
 public:
  void Arrive(const PrefixRequest& request) override {}
  void Insert(const SegmentId& id, uint32_t owner, float worth) override;
  void Erase(const SegmentId& id) override;
  void Touch(const SegmentId& id) override;
  void SetEvictable(const SegmentId& id, bool evictable) override;
  bool Admit(const SegmentId& id, float worth) override { return true; }
  std::optional<SegmentId> Victim(const OwnerFilter& may_lose) override;

 protected:
  // Uses, and the tick of the last: both as the policy counts them.
  using Rank = std::pair<uint64_t, uint64_t>;

  // The rank after a use at `tick`; a new segment was {0, 0} before.
  virtual Rank Used(const Rank& before, uint64_t tick) const = 0;

 private:
  struct Entry {
    Rank rank;
    uint32_t owner = 0;
    bool evictable = false;
  };
  uint64_t tick_ = 0;
  std::unordered_map<SegmentId, Entry, SegmentIdHash> entries_;
  // By owner; none that is empty.
  std::unordered_map<uint32_t, std::map<Rank, SegmentId>> evictable_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_RANKED_H_
