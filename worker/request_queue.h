// Hands requests to the decode thread, one after the other.
#ifndef FORECACHE_WORKER_REQUEST_QUEUE_H_
#define FORECACHE_WORKER_REQUEST_QUEUE_H_

#include <deque>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace forecache {

// Threads: safe to call from any thread.
class RequestQueue {
 public:
  using Work = std::function<absl::Status()>;

  RequestQueue();
  // Requests that wait end with kUnavailable; the one that runs, runs out.
  ~RequestQueue();

  // Runs `work` on the decode thread and returns its status.
  // kResourceExhausted when kQueuedRequestsMax requests wait already.
  absl::Status Run(const Work& work);

  int waiting() const;

 private:
  struct Entry {
    const Work* work;
    absl::Status status;
    bool done = false;
  };
  void Loop();

  mutable absl::Mutex mutex_;
  std::deque<Entry*> entries_ ABSL_GUARDED_BY(mutex_);
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_REQUEST_QUEUE_H_
