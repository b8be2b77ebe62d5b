// How long to wait before the next try to reach a peer.
#ifndef FORECACHE_TRANSPORT_BACKOFF_H_
#define FORECACHE_TRANSPORT_BACKOFF_H_

#include <cstdint>

#include "common/clock.h"
#include "common/rng.h"

namespace forecache {

struct BackoffOptions {
  Nanos first = 50 * kMillisecond;  // before the second try
  // The longest wait: a peer that comes back is found within it.
  Nanos max = 10 * kSecond;
  double factor = 2;
  // Each wait is drawn from [1 - jitter, 1] of its length, so that workers
  // that lost the same store do not come back to it at the same moment.
  double jitter = 0.5;
  // A connection that held this long starts the waits anew.  One that broke
  // sooner counts as one more failure, or a peer that accepts and dies would
  // be tried without a pause.
  Nanos stable_after = 30 * kSecond;
};

// Exponential waits with jitter from a seed.  It keeps no time of its own: the
// caller asks when the next try is due, tells what became of it, and sleeps in
// its own loop.
//
// Threads: one thread at a time.
class Backoff {
 public:
  // Give each peer another seed.  REQUIRES: 0 < first <= max, factor >= 1,
  // jitter in [0, 1].
  Backoff(const BackoffOptions& options, uint64_t seed);

  // True when a try is due.  The first is due at once.
  bool Due(Nanos now) const { return now >= next_; }
  // When the next try is due; for a Wait's timeout.
  Nanos next() const { return next_; }

  // A try failed, or the connection that one had made was lost.
  void Failed(Nanos now);
  // A try succeeded.
  void Connected(Nanos now);

  // Tries that failed since the last stable connection.
  int failures() const { return failures_; }

 private:
  const BackoffOptions options_;
  Rng rng_;
  int failures_ = 0;
  double wait_;              // before jitter, after the next failure
  Nanos connected_at_ = -1;  // -1: not connected
  Nanos next_ = INT64_MIN;
};

}  // namespace forecache

#endif  // FORECACHE_TRANSPORT_BACKOFF_H_
