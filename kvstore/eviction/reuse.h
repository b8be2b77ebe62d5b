// What is least likely to be used again soon goes first.
#ifndef FORECACHE_KVSTORE_EVICTION_REUSE_H_
#define FORECACHE_KVSTORE_EVICTION_REUSE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

#include "common/rng.h"
#include "kvstore/eviction/policy.h"
#include "kvstore/eviction/reuse_model.h"

namespace forecache {

// Values a segment by its class and the time since its last use (ReuseModel),
// times its worth, and gives up the least valuable of a sample of those that
// may go.  The class is what can be known at the use: how often the segment was
// used, whether its request went on from a context seen before, how much of it
// was new, and whether it is a tail that tokens do not fill.  Segments that
// went, or were never taken in, are followed for a while (ghosts), so that the
// model learns of the uses it missed.
//
// Threads: as EvictionPolicy.
class ReuseEviction : public EvictionPolicy {
 public:
  explicit ReuseEviction(uint64_t seed);

  void Arrive(const PrefixRequest& request) override;
  void Insert(const SegmentId& id, uint32_t owner, float worth) override;
  void Erase(const SegmentId& id) override;
  void Touch(const SegmentId& id) override;
  void SetEvictable(const SegmentId& id, bool evictable) override;
  // Whether `id` is worth what would go for it.
  bool Admit(const SegmentId& id, float worth) override;
  std::optional<SegmentId> Victim(const OwnerFilter& may_lose) override;

  // Segments known, held or not.
  size_t size() const { return entries_.size(); }

 private:
  // What a request says of the segments it uses.
  struct Context {
    bool continued = false;  // from a context that was seen before
    bool open_tail = false;  // the segment is its request's tail, not full
    uint8_t fresh = 0;       // how many segments were never seen, by powers
  };
  struct Entry {
    SegmentId id;
    Nanos used = 0;
    uint64_t use = 0;  // number of the last use, from 1
    uint32_t owner = 0;  // while it is held
    float worth = 1;     // alike
    int place = -1;    // in its owner's evictable_; -1: not there
    int of_class = 0;
    uint8_t hits = 0;  // uses after the first, as far as kHitsMax
    bool held = false;
    bool counted = false;  // by Arrive: the next Touch or Insert is that use
    Context context;
  };
  // One use, until it is too old to learn from.
  struct Use {
    Nanos time = 0;
    Entry* entry = nullptr;
    int of_class = 0;
    bool latest = true;  // of its segment
  };

  // What ranks an evictable entry, close together: a sample reads them all.
  struct Candidate {
    Entry* entry = nullptr;
    Nanos used = 0;
    uint64_t use = 0;
    int of_class = 0;
    float worth = 1;
  };

  static int ClassOf(const Entry& entry);
  static Candidate CandidateOf(Entry* entry) {
    return {entry, entry->used, entry->use, entry->of_class, entry->worth};
  }
  Entry& Find(const SegmentId& id);
  void CountUse(Entry* entry, const Context& context);
  // Tells the model who has reached which age by now; forgets old uses.
  void Age();
  float ValueOf(const Candidate& candidate) const;
  // Of the owners that may lose a segment.
  Candidate LeastOfSample(const OwnerFilter& may_lose);

  Nanos now_ = 0;
  Rng rng_;
  ReuseModel model_;
  std::unordered_map<SegmentId, Entry, SegmentIdHash> entries_;
  std::deque<Use> uses_;  // at most kEvictionHistoryMax
  uint64_t first_use_ = 0;  // number of uses_.front()
  uint64_t next_update_ = 0;
  // The first use that has not reached each age.
  std::vector<uint64_t> reached_;
  // By owner; none that is empty.
  std::unordered_map<uint32_t, std::vector<Candidate>> evictable_;
  Candidate victim_;  // of all owners, until something changes
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_REUSE_H_
