// How many bytes of pushes a store may have under way to one worker.
#ifndef FORECACHE_KVSTORE_PUSH_CREDIT_H_
#define FORECACHE_KVSTORE_PUSH_CREDIT_H_

#include <cstddef>
#include <cstdint>

#include "common/clock.h"
#include "common/limits.h"

namespace forecache {

// The worker announces a limit and tells what it took; the store tells with
// each push how many bytes it has sent so far.  Both are totals, so that
// messages about them may be lost, doubled and overtaken: the largest counts.
// A push that was lost counts as taken with the next one that arrives.
//
// Threads: one thread.
class PushCredit {
 public:
  explicit PushCredit(uint64_t limit) : limit_(limit) {}

  uint64_t sent() const { return sent_; }
  uint64_t under_way() const { return sent_ - taken_; }

  // Whether a push of `bytes` may be sent.  Bulk leaves a quarter of the limit
  // to what is urgent.  When nothing is under way any push may.
  bool Admits(size_t bytes, bool urgent) const {
    const uint64_t limit = urgent ? limit_ : limit_ - limit_ / 4;
    return under_way() == 0 || under_way() + bytes <= limit;
  }
  void Sent(size_t bytes) { sent_ += bytes; }
  // The worker took pushes up to the total `taken`.  False when that is more
  // than was sent.
  bool Taken(uint64_t taken) {
    if (taken > sent_) return false;
    if (taken > taken_) {
      taken_ = taken;
      starved_ = -1;
    }
    return true;
  }

  // A push was not admitted.  True when none was for kPushCreditTimeout without
  // a word of the worker: what is under way counts as lost from then on, or
  // pushes that were all lost would be the last.
  bool Starve(Nanos now) {
    if (starved_ < 0) starved_ = now;
    if (now - starved_ < kPushCreditTimeout) return false;
    taken_ = sent_;
    starved_ = -1;
    return true;
  }

 private:
  uint64_t limit_;
  uint64_t sent_ = 0;
  uint64_t taken_ = 0;
  Nanos starved_ = -1;  // since when; -1: not
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_PUSH_CREDIT_H_
