// What a store has to do between its tiers, and when.
#ifndef FORECACHE_KVSTORE_SSD_WORK_H_
#define FORECACHE_KVSTORE_SSD_WORK_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "common/clock.h"
#include "common/limits.h"
#include "kvstore/index.h"
#include "kvstore/segment.h"
#include "kvstore/ssd/ssd_tier.h"

namespace forecache {

struct SsdOptions {
  SsdTierOptions tier;
  // Of segments on their way to SSD.  0: as fast as it takes them.
  size_t write_bytes_per_second = 0;
  // Of segments that are copied back to memory.  0: as fast as it gives them.
  size_t promote_bytes_per_second = 0;
  // Of the scrubber, which reads all segments again and again.  0: it does not.
  size_t scrub_bytes_per_second = kSsdScrubBytesPerSecond;
  // false: nothing happens by itself, RunSsd does the work.  For tests and
  // simulations.
  bool background = true;
};

// A segment in memory that waits to be written.
//
// Threads: a value.
struct Demotion {
  Index::EntryRef pin;  // so that it is not evicted before
  SegmentOrigin origin;
  std::shared_ptr<const SegmentView> view;
};

// A segment in memory that could not be put in line: the disk was off, or too
// many waited.  It may be evicted meanwhile.
//
// Threads: a value.
struct DeferredDemotion {
  SegmentId id;
  SegmentOrigin origin;
};

// A segment on SSD that a session reads: number `number` of its context.
//
// Threads: a value.
struct Promotion {
  SegmentId id;
  size_t number = 0;
};

// Threads: guarded by the store's lock.
struct SsdWork {
  std::deque<Demotion> demotions;  // oldest first
  bool writing = false;            // one that is in the queue no more
  uint64_t written = 0;            // demotions that ended, well or not
  std::deque<DeferredDemotion> deferred;  // oldest first
  std::deque<Promotion> promotions;
  std::vector<SegmentId> touched;  // used, and not noted on disk yet
  bool stop = false;
};

// Lets bytes pass at a rate.
//
// Threads: one thread.
class Pacer {
 public:
  explicit Pacer(size_t bytes_per_second) : rate_(bytes_per_second) {}
  // How long to wait before more may pass.
  Nanos Wait(Nanos now) const { return rate_ == 0 ? 0 : due_ - now; }
  void Passed(size_t bytes, Nanos now) {
    if (rate_ == 0) return;
    if (due_ < now) due_ = now;
    due_ += static_cast<Nanos>(static_cast<double>(bytes) / rate_ * kSecond);
  }
  size_t rate() const { return rate_; }

 private:
  const size_t rate_;
  Nanos due_ = 0;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_WORK_H_
