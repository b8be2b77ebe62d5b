#include "worker/work_crew.h"

#include <pthread.h>

#include "common/check.h"

namespace forecache {

WorkCrew::WorkCrew(int threads) : parts_(threads) {
  FC_CHECK(threads > 0) << threads;
  for (int part = 1; part < parts_; ++part) {
    threads_.emplace_back([this, part] {
      pthread_setname_np(pthread_self(), "attention");
      Loop(part);
    });
  }
}

WorkCrew::~WorkCrew() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void WorkCrew::Run(const std::function<void(int, int)>& work) {
  {
    absl::MutexLock lock(&mutex_);
    work_ = &work;
    running_ = parts_ - 1;
    ++round_;
  }
  work(0, parts_);
  absl::MutexLock lock(&mutex_);
  const auto done = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return running_ == 0;
  };
  mutex_.Await(absl::Condition(&done));
}

void WorkCrew::Loop(int part) {
  uint64_t seen = 0;
  for (;;) {
    const std::function<void(int, int)>* work;
    {
      absl::MutexLock lock(&mutex_);
      const auto woken = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stop_ || round_ != seen;
      };
      mutex_.Await(absl::Condition(&woken));
      if (stop_) return;
      seen = round_;
      work = work_;
    }
    (*work)(part, parts_);
    absl::MutexLock lock(&mutex_);
    --running_;
  }
}

}  // namespace forecache
