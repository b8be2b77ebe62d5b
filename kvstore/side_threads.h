// Threads for work that waits, beside a thread that must not.
#ifndef FORECACHE_KVSTORE_SIDE_THREADS_H_
#define FORECACHE_KVSTORE_SIDE_THREADS_H_

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace forecache {

// The owner bounds what it submits.  Without threads Submit does the work
// itself.
//
// Threads: Submit from one thread; `on_done` is called on the side threads,
// after each piece of work.
// Lifetime: what the work names must stay until it was done, or the threads
// have gone.
class SideThreads {
 public:
  SideThreads(const std::string& name, int threads,
              std::function<void()> on_done);
  // Lets work that runs end, drops the other.
  ~SideThreads();
  SideThreads(const SideThreads&) = delete;
  SideThreads& operator=(const SideThreads&) = delete;

  int threads() const { return static_cast<int>(threads_.size()); }
  // Urgent work is begun before all other.
  void Submit(std::function<void()> work, bool urgent = false);

 private:
  void Run();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return stop_ || !urgent_.empty() || !bulk_.empty();
  }

  const std::string name_;
  const std::function<void()> on_done_;
  absl::Mutex mu_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::function<void()>> urgent_ ABSL_GUARDED_BY(mu_);
  std::vector<std::function<void()>> bulk_ ABSL_GUARDED_BY(mu_);
  std::vector<std::thread> threads_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SIDE_THREADS_H_
