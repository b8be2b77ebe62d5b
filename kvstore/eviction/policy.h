// Which segment to give up next, and which not to take in at all.
#ifndef FORECACHE_KVSTORE_EVICTION_POLICY_H_
#define FORECACHE_KVSTORE_EVICTION_POLICY_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/clock.h"
#include "kvstore/segment_id.h"

namespace forecache {

// A request as a policy sees it, before anything is computed for it.
//
// Threads: a value.
struct PrefixRequest {
  Nanos now = 0;
  std::span<const SegmentId> chain;  // from the root, held or not
  // Whether tokens fill the last segment of `chain`.  One that is part empty
  // is found again only by the very same prompt.
  bool tail_is_full = true;
  // Whose request it is.  No policy ranks by it: floors are the store's.
  uint32_t tenant = 0;
};

// Whether an owner's segments may be given up now; empty: everybody's.
using OwnerFilter = std::function<bool(uint32_t owner)>;

// An EvictionPolicy ranks the segments of one index.  The index tells it which
// of them may go now (unpinned leaves); it says which one goes first.  So no
// policy can give up a parent before its children, or what is pinned.
//
// Each segment has an owner, so that the store can spare some of them: what is
// learnt is of all owners together, and so is the order.
//
// Each segment has a worth: what it costs to compute it again, for each byte
// that it takes, in any unit that is the same for all.
//
// Time passes with requests.  What it remembers of segments that are not held
// is bounded: see kEvictionHistoryMax.
//
// Threads: one at a time; the index's owner locks.
class EvictionPolicy {
 public:
  virtual ~EvictionPolicy() = default;
  // A request comes.  Uses follow: a Touch of each segment that it finds, an
  // Insert of each that it brings.
  virtual void Arrive(const PrefixRequest& request) = 0;
  // A segment appears, not evictable yet.  It counts as used now.
  virtual void Insert(const SegmentId& id, uint32_t owner, float worth) = 0;
  // A segment is gone: evicted, or damaged.
  virtual void Erase(const SegmentId& id) = 0;
  // A segment was used (found by a session).
  virtual void Touch(const SegmentId& id) = 0;
  virtual void SetEvictable(const SegmentId& id, bool evictable) = 0;
  // Whether to take in `id`, which is not held, in place of Victim().
  virtual bool Admit(const SegmentId& id, float worth) = 0;
  // The evictable segment to give up first, of the owners that may lose one.
  // The same until something changes, when everybody may.
  virtual std::optional<SegmentId> Victim(const OwnerFilter& may_lose) = 0;
};

// Makes a policy by its name; null when there is none of that name.  The same
// seed and calls give the same victims.
std::unique_ptr<EvictionPolicy> NewEvictionPolicy(const std::string& name,
                                                  uint64_t seed);
// The names, plainest first.
const std::vector<std::string>& EvictionPolicyNames();

inline constexpr char kEvictionDefault[] = "reuse";

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_POLICY_H_
