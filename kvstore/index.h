// Which segments are held, and how they follow each other.
#ifndef FORECACHE_KVSTORE_INDEX_H_
#define FORECACHE_KVSTORE_INDEX_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>

#include "kvstore/eviction/policy.h"
#include "kvstore/segment_id.h"
#include "kvstore/tenants/tenant.h"

namespace forecache {

// The Index knows each sealed segment by id, its parent, how many children it
// has and how many sessions use it.  A segment may be evicted when no session
// uses it and it has no children, so a parent never goes before its children.
//
// Threads: one at a time; its owner locks.
class Index {
 public:
  // A segment's place.  Sessions keep it as their pin: a segment that was
  // dropped and came back is another entry.
  struct Entry {
    SegmentId id;
    SegmentId parent;
    TenantId owner = kDefaultTenant;  // or a sharing domain
    size_t bytes = 0;                 // that go with it
    float worth = 1;                  // see EvictionPolicy
    int pins = 0;
    bool held = true;  // false once erased
  };
  using EntryRef = std::shared_ptr<Entry>;

  explicit Index(std::unique_ptr<EvictionPolicy> policy);

  // How many of `ids`, a chain from the root, are held without a gap.
  size_t LongestPrefix(std::span<const SegmentId> ids) const;

  // A request comes: see EvictionPolicy.
  void Arrive(const PrefixRequest& request) { policy_->Arrive(request); }
  // Whether `id`, which is not held, is worth the segment that Evict would
  // take.  False when none may go.
  bool Admits(const SegmentId& id, float worth = 1) {
    return policy_->Admit(id, worth);
  }

  // The segment, used now and pinned once more; null when it is not held.
  EntryRef Pin(const SegmentId& id);
  // The segment, neither used nor pinned; null when it is not held.
  EntryRef Find(const SegmentId& id) const;
  // Pins it once more, which is no use of it.
  void Hold(const EntryRef& entry);
  // Ends one pin.
  void Unpin(const EntryRef& entry);

  bool Contains(const SegmentId& id) const { return entries_.contains(id); }

  // Adds a segment, pinned once.  Its parent need not be held: it may have
  // been dropped because of a damaged block, and come back later.
  // REQUIRES: !Contains(id).
  EntryRef Insert(const SegmentId& id, const SegmentId& parent,
                  TenantId owner = kDefaultTenant, size_t bytes = 0,
                  float worth = 1);

  // Forgets a segment whatever its pins and children: a damaged one.
  // False when it is not held.
  bool Erase(const SegmentId& id);

  // The segment that the policy gives up first, of the owners that may lose
  // one; null when none may go.
  EntryRef Victim(const OwnerFilter& may_lose = {}) const;
  // Forgets that segment.
  std::optional<SegmentId> Evict();

  size_t size() const { return entries_.size(); }
  // How many of its segments the other one holds, too.
  size_t CountIn(const Index& other) const;

 private:
  void Refresh(const SegmentId& id);

  const std::unique_ptr<EvictionPolicy> policy_;
  std::unordered_map<SegmentId, EntryRef, SegmentIdHash> entries_;
  // Children held, by parent, whether the parent is held or not.
  std::unordered_map<SegmentId, int, SegmentIdHash> children_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_INDEX_H_
