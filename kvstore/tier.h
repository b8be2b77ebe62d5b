// The seam of the memory hierarchy: a place where sealed segments live.
//
// DramTier and ssd/ssd_tier.h's SsdTier.  tests/contract/tier_test.cc holds
// every implementation to this page.
#ifndef FORECACHE_KVSTORE_TIER_H_
#define FORECACHE_KVSTORE_TIER_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kvstore/segment.h"
#include "kvstore/segment_id.h"

namespace forecache {

// Whose a segment is, and what it was computed from.
//
// Threads: a value.
struct SegmentOrigin {
  SegmentId parent;  // the nearest ancestor that lies in this store
  ModelDigest model;
  std::string tenant = "default";
  bool operator==(const SegmentOrigin&) const = default;
};

// A Tier holds sealed segments by id.  It does not choose what to evict: the
// index does, which knows parents and sessions; the tier says who is pinned.
//
// Segments are immutable.  A Tier bounds its own bytes.
//
// Threads: safe to call from any thread.
// Lifetime: outlives every pin that it gave.
class Tier {
 public:
  virtual ~Tier() = default;
  virtual std::string Name() const = 0;  // for logs and labels: "dram"

  // Takes a segment in.  OK means that Pin finds it, whole.
  // kAlreadyExists when the id is held: `segment` is then the caller's still.
  // kResourceExhausted when it does not fit.
  // REQUIRES: segment->sealed().
  virtual absl::Status Put(const SegmentId& id, const SegmentOrigin& origin,
                           std::shared_ptr<Segment> segment) = 0;

  // A segment that cannot go away while the pointer lives.  kNotFound.  What a
  // tier on a device has to bring to memory for it may fail: kResourceExhausted
  // when the arena is full, kDataLoss, kUnavailable.
  virtual absl::StatusOr<std::shared_ptr<const SegmentView>> Pin(
      const SegmentId& id) = 0;

  // Forgets a segment: Pin misses it at once; its bytes come back when its
  // last pin goes.  kNotFound.
  virtual absl::Status Drop(const SegmentId& id) = 0;

  // Whether a pin of `id` is out, so that dropping it would not free memory
  // yet.  False when it is not held.
  virtual bool IsPinned(const SegmentId& id) const = 0;

  // Bytes of all segments, of the dropped ones too until their last pin goes.
  virtual size_t used_bytes() const = 0;
  virtual size_t capacity_bytes() const = 0;
  virtual size_t segments() const = 0;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TIER_H_
