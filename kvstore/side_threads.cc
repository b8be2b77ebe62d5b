#include "kvstore/side_threads.h"

#include <pthread.h>

#include <utility>

namespace forecache {

SideThreads::SideThreads(const std::string& name, int threads,
                         std::function<void()> on_done)
    : name_(name), on_done_(std::move(on_done)) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

SideThreads::~SideThreads() {
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

void SideThreads::Submit(std::function<void()> work, bool urgent) {
  if (threads_.empty()) {
    work();
    return;
  }
  absl::MutexLock lock(&mu_);
  (urgent ? urgent_ : bulk_).push_back(std::move(work));
}

void SideThreads::Run() {
  pthread_setname_np(pthread_self(), name_.c_str());
  for (;;) {
    std::function<void()> work;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &SideThreads::HasWork));
      if (stop_) return;
      auto& first = urgent_.empty() ? bulk_ : urgent_;
      work = std::move(first.front());
      first.erase(first.begin());  // there are a few
    }
    work();
    on_done_();
  }
}

}  // namespace forecache
