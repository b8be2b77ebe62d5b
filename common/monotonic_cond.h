// A condition variable whose waits end by the monotonic clock.
#ifndef FORECACHE_COMMON_MONOTONIC_COND_H_
#define FORECACHE_COMMON_MONOTONIC_COND_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"

namespace forecache {

// absl's own timed waits, as of the version used here, sleep until a time of
// the wall clock: when that is set back they last longer by as much.
//
// Threads: safe to call from any thread.
class MonotonicCond {
 public:
  // Waits until it is signalled, or `timeout` has passed, or for no reason.
  void WaitFor(absl::Mutex* mu, Nanos timeout)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    Lock lock{mu};
    signalled_.wait_for(
        lock, std::chrono::nanoseconds(std::max<Nanos>(timeout, 0)));
  }
  // Waits until `is_true()`, which is called with the lock held, `timeout` at
  // most.  Returns what it is then.
  template <typename Condition>
  bool AwaitFor(absl::Mutex* mu, Nanos timeout, const Condition& is_true)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu) {
    const Nanos end = Clock::Real()->Now() + timeout;
    while (!is_true()) {
      const Nanos left = end - Clock::Real()->Now();
      if (left <= 0) return false;
      WaitFor(mu, left);
    }
    return true;
  }
  void SignalAll() { signalled_.notify_all(); }

 private:
  // What std::condition_variable_any wants of a lock.
  struct Lock {
    void lock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu->Lock(); }
    void unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS { mu->Unlock(); }
    absl::Mutex* mu;
  };

  std::condition_variable_any signalled_;
};

}  // namespace forecache

#endif  // FORECACHE_COMMON_MONOTONIC_COND_H_
