// Which requests may still call back.
#ifndef FORECACHE_WORKER_REQUESTS_UNDER_WAY_H_
#define FORECACHE_WORKER_REQUESTS_UNDER_WAY_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/check.h"

namespace forecache {

// Every request of one sink, from before it is sent until it has ended, so that
// the sink can cancel them all before it goes.  A ticket stands for a request
// whose id is not known yet: it is what the end of the request gives back.
// Takes memory only while more are under way than ever before.
//
// Threads: one thread.
class RequestsUnderWay {
 public:
  // A ticket for the request that is sent next.
  size_t Begin() {
    if (free_.empty()) {
      free_.push_back(ids_.size());
      ids_.push_back(0);
    }
    const size_t ticket = free_.back();
    free_.pop_back();
    ids_[ticket] = kNotSent;
    return ticket;
  }
  void Sent(size_t ticket, uint64_t request) { ids_[ticket] = request; }
  // The request has ended, or was never sent.
  void End(size_t ticket) {
    FC_CHECK(ids_[ticket] != kFree);
    ids_[ticket] = kFree;
    free_.push_back(ticket);
  }

  // The requests that were sent and have not ended.
  std::vector<uint64_t> Ids() const {
    std::vector<uint64_t> sent;
    for (const uint64_t id : ids_) {
      if (id != kFree && id != kNotSent) sent.push_back(id);
    }
    return sent;
  }

 private:
  // Ids count from 1.
  static constexpr uint64_t kFree = 0;
  static constexpr uint64_t kNotSent = ~uint64_t{0};

  std::vector<uint64_t> ids_;  // by ticket
  std::vector<size_t> free_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_REQUESTS_UNDER_WAY_H_
