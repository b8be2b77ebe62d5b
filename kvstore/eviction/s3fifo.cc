#include "kvstore/eviction/s3fifo.h"

#include <algorithm>

#include "common/check.h"
#include "common/limits.h"

namespace forecache {
namespace {

constexpr uint8_t kUsesMax = 3;
constexpr size_t kSmallPart = 10;  // the small queue has one in ten

}  // namespace

void S3FifoEviction::Insert(const SegmentId& id, uint32_t owner,
                            float worth) {
  Entry entry;
  entry.owner = owner;
  entry.place = ++tick_;
  Owner& whose = owners_[owner];
  ++whose.size;
  auto ghost = ghost_ticks_.find(id);
  if (ghost != ghost_ticks_.end()) {
    entry.main = true;
    ghosts_.erase(ghost->second);
    ghost_ticks_.erase(ghost);
  } else {
    ++whose.small_size;
  }
  bool fresh = entries_.emplace(id, entry).second;
  FC_CHECK(fresh) << id.ToHex();
}

void S3FifoEviction::Erase(const SegmentId& id) {
  SetEvictable(id, false);
  auto found = entries_.find(id);
  const Entry& entry = found->second;
  Owner& whose = OwnerOf(entry);
  if (!entry.main) {
    --whose.small_size;
    Remember(id);
  }
  if (--whose.size == 0) owners_.erase(entry.owner);
  entries_.erase(found);
}

void S3FifoEviction::Remember(const SegmentId& id) {
  ghost_ticks_[id] = ++tick_;
  ghosts_[tick_] = id;
  // As many as are held, as the paper has it.
  size_t limit = std::min(kEvictionHistoryMax, entries_.size());
  while (ghosts_.size() > limit) {
    ghost_ticks_.erase(ghosts_.begin()->second);
    ghosts_.erase(ghosts_.begin());
  }
}

void S3FifoEviction::Touch(const SegmentId& id) {
  auto found = entries_.find(id);
  FC_CHECK(found != entries_.end()) << id.ToHex();
  uint8_t& uses = found->second.uses;
  uses = std::min<uint8_t>(uses + 1, kUsesMax);
}

void S3FifoEviction::SetEvictable(const SegmentId& id, bool evictable) {
  auto found = entries_.find(id);
  FC_CHECK(found != entries_.end()) << id.ToHex();
  Entry& entry = found->second;
  if (entry.evictable == evictable) return;
  entry.evictable = evictable;
  if (evictable) {
    QueueOf(entry).emplace(entry.place, id);
  } else {
    QueueOf(entry).erase(entry.place);
  }
}

void S3FifoEviction::MoveToMain(const SegmentId& id, Entry* entry,
                                uint8_t uses) {
  QueueOf(*entry).erase(entry->place);
  if (!entry->main) --OwnerOf(*entry).small_size;
  entry->main = true;
  entry->uses = uses;
  entry->place = ++tick_;
  OwnerOf(*entry).main.emplace(entry->place, id);
}

std::optional<SegmentId> S3FifoEviction::Victim(const OwnerFilter& may_lose) {
  std::optional<SegmentId> oldest;
  uint64_t oldest_place = 0;
  for (auto& [number, owner] : owners_) {
    if (may_lose && !may_lose(number)) continue;
    const std::optional<SegmentId> id = VictimOf(owner);
    if (!id) continue;
    const uint64_t place = entries_.at(*id).place;
    if (oldest && place >= oldest_place) continue;
    oldest = id;
    oldest_place = place;
  }
  return oldest;
}

std::optional<SegmentId> S3FifoEviction::VictimOf(Owner& owner) {
  // Ends: each turn takes an entry out of the small queue, or a use away.
  for (;;) {
    bool from_small = owner.small_size * kSmallPart >= owner.size;
    if (owner.small.empty()) from_small = false;
    if (owner.main.empty()) from_small = true;
    const Queue& queue = from_small ? owner.small : owner.main;
    if (queue.empty()) return std::nullopt;
    const SegmentId id = queue.begin()->second;
    Entry& entry = entries_.at(id);
    if (entry.uses == 0) return id;
    MoveToMain(id, &entry, from_small ? 0 : entry.uses - 1);
  }
}

}  // namespace forecache
