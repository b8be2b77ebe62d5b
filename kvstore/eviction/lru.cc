#include "kvstore/eviction/lru.h"

#include "common/check.h"

namespace forecache {

void LruEviction::Insert(const SegmentId& id) {
  bool fresh = entries_.emplace(id, Entry{++tick_, false}).second;
  FC_CHECK(fresh) << id.ToHex();
}

void LruEviction::Erase(const SegmentId& id) {
  SetEvictable(id, false);
  entries_.erase(id);
}

void LruEviction::Touch(const SegmentId& id) {
  auto found = entries_.find(id);
  FC_CHECK(found != entries_.end()) << id.ToHex();
  bool evictable = found->second.evictable;
  SetEvictable(id, false);
  found->second.used = ++tick_;
  SetEvictable(id, evictable);
}

void LruEviction::SetEvictable(const SegmentId& id, bool evictable) {
  auto found = entries_.find(id);
  FC_CHECK(found != entries_.end()) << id.ToHex();
  Entry& entry = found->second;
  if (entry.evictable == evictable) return;
  entry.evictable = evictable;
  if (evictable) {
    evictable_.emplace(entry.used, id);
  } else {
    evictable_.erase(entry.used);
  }
}

std::optional<SegmentId> LruEviction::Victim() {
  if (evictable_.empty()) return std::nullopt;
  return evictable_.begin()->second;
}

}  // namespace forecache
