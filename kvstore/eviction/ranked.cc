#include "kvstore/eviction/ranked.h"

#include "common/check.h"

namespace forecache {

void RankedEviction::Insert(const SegmentId& id) {
  bool fresh = entries_.emplace(id, Entry{Used({}, ++tick_), false}).second;
  FC_CHECK(fresh) << id.ToHex();
}

void RankedEviction::Erase(const SegmentId& id) {
  SetEvictable(id, false);
  entries_.erase(id);
}

void RankedEviction::Touch(const SegmentId& id) {
  auto found = entries_.find(id);
  FC_CHECK(found != entries_.end()) << id.ToHex();
  bool evictable = found->second.evictable;
  SetEvictable(id, false);
  found->second.rank = Used(found->second.rank, ++tick_);
  SetEvictable(id, evictable);
}

void RankedEviction::SetEvictable(const SegmentId& id, bool evictable) {
  auto found = entries_.find(id);
  FC_CHECK(found != entries_.end()) << id.ToHex();
  Entry& entry = found->second;
  if (entry.evictable == evictable) return;
  entry.evictable = evictable;
  if (evictable) {
    evictable_.emplace(entry.rank, id);
  } else {
    evictable_.erase(entry.rank);
  }
}

std::optional<SegmentId> RankedEviction::Victim() {
  if (evictable_.empty()) return std::nullopt;
  return evictable_.begin()->second;
}

}  // namespace forecache
