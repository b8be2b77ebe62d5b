// The first thing that went wrong in a session, seen by all its threads.
#ifndef FORECACHE_WORKER_SESSION_FAULT_H_
#define FORECACHE_WORKER_SESSION_FAULT_H_

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace forecache {

// Threads: safe to call from any thread.
class SessionFault {
 public:
  // Keeps the first error; an OK status changes nothing.
  void Set(const absl::Status& status) {
    if (status.ok()) return;
    absl::MutexLock lock(&mutex_);
    if (status_.ok()) status_ = status;
  }

  absl::Status status() const {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

 private:
  mutable absl::Mutex mutex_;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_SESSION_FAULT_H_
