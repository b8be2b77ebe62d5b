#include "kvstore/eviction/ranked.h"

#include "common/check.h"

namespace forecache {

void RankedEviction::Insert(const SegmentId& id, uint32_t owner,
                            float worth) {
  bool fresh =
      entries_.emplace(id, Entry{Used({}, ++tick_), owner, false}).second;
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
  auto& of_owner = evictable_[entry.owner];
  if (evictable) {
    of_owner.emplace(entry.rank, id);
  } else {
    of_owner.erase(entry.rank);
    if (of_owner.empty()) evictable_.erase(entry.owner);
  }
}

std::optional<SegmentId> RankedEviction::Victim(const OwnerFilter& may_lose) {
  std::optional<std::pair<Rank, SegmentId>> least;
  for (const auto& [owner, segments] : evictable_) {
    if (may_lose && !may_lose(owner)) continue;
    const auto& [rank, id] = *segments.begin();
    if (!least || rank < least->first) least = {rank, id};
  }
  if (!least) return std::nullopt;
  return least->second;
}

}  // namespace forecache
