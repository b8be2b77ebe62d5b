// A few threads that share one piece of work and then sleep.
#ifndef FORECACHE_WORKER_WORK_CREW_H_
#define FORECACHE_WORKER_WORK_CREW_H_

#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace forecache {

// Threads: one caller at a time.
class WorkCrew {
 public:
  // The caller of Run is one of the `threads`.
  explicit WorkCrew(int threads);
  ~WorkCrew();

  // Calls work(part, parts) for every part, each on its own thread; returns
  // when all have.
  void Run(const std::function<void(int part, int parts)>& work);

 private:
  void Loop(int part);

  const int parts_;
  absl::Mutex mutex_;
  const std::function<void(int, int)>* work_ ABSL_GUARDED_BY(mutex_) = nullptr;
  uint64_t round_ ABSL_GUARDED_BY(mutex_) = 0;
  int running_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_WORK_CREW_H_
