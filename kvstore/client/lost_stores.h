// Which of a worker's stores are lost, and when each is to be tried again.
#ifndef FORECACHE_KVSTORE_CLIENT_LOST_STORES_H_
#define FORECACHE_KVSTORE_CLIENT_LOST_STORES_H_

#include <algorithm>
#include <vector>

#include "common/clock.h"
#include "common/limits.h"
#include "transport/backoff.h"

namespace forecache {

// It keeps no time and tries nothing itself.
//
// Threads: one at a time; its owner locks.
class LostStores {
 public:
  // Give each worker another seed.
  LostStores(int members, uint64_t seed) {
    for (int m = 0; m < members; ++m) {
      members_.push_back({Backoff({.first = kReconnectFirst,
                                   .max = kReconnectMost,
                                   .stable_after = kReconnectStable},
                                  seed + m)});
      members_.back().backoff.Connected(0);
    }
  }

  // A member was lost, or lost something that attaching again brings back.
  // Twice is once.  False when that was known.
  bool Lost(int member, Nanos now) {
    Member& lost = members_[member];
    if (lost.lost) return false;
    lost.lost = true;
    if (!lost.trying) lost.backoff.Failed(now);
    return true;
  }

  // The member to try now; its owner tells what became of it by Tried.  -1 when
  // there is none until `next`.
  int TakeDue(Nanos now, Nanos* next) {
    *next = now + kReconnectMost;
    for (size_t m = 0; m < members_.size(); ++m) {
      Member& member = members_[m];
      if (!member.lost || member.trying) continue;
      if (member.backoff.Due(now)) {
        member.trying = true;
        member.lost = false;  // what happens from now on is news
        return static_cast<int>(m);
      }
      *next = std::min(*next, member.backoff.next());
    }
    return -1;
  }

  void Tried(int member, bool back, Nanos now) {
    Member& tried = members_[member];
    tried.trying = false;
    if (back) {
      tried.backoff.Connected(now);
      if (!tried.lost) return;  // else lost again already
    }
    tried.lost = true;
    tried.backoff.Failed(now);
  }

 private:
  struct Member {
    Backoff backoff;
    bool lost = false;
    bool trying = false;
  };

  std::vector<Member> members_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_LOST_STORES_H_
