#include "worker/request_queue.h"

#include <pthread.h>

#include <utility>

#include "common/limits.h"
#include "common/status.h"

namespace forecache {

RequestQueue::RequestQueue() {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "decode");
    Loop();
  });
}

RequestQueue::~RequestQueue() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
    for (Entry* entry : entries_) {
      entry->status = absl::UnavailableError("the worker is stopping");
      entry->done = true;
    }
    entries_.clear();
  }
  thread_.join();
}

absl::Status RequestQueue::Run(const Work& work) {
  Entry entry{.work = &work};
  absl::MutexLock lock(&mutex_);
  if (stop_) return absl::UnavailableError("the worker is stopping");
  if (entries_.size() >= size_t{kQueuedRequestsMax}) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the worker has ", kQueuedRequestsMax, " requests waiting already"));
  }
  entries_.push_back(&entry);
  mutex_.Await(absl::Condition(&entry.done));
  return entry.status;
}

int RequestQueue::waiting() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(entries_.size());
}

void RequestQueue::Loop() {
  for (;;) {
    Entry* entry;
    {
      absl::MutexLock lock(&mutex_);
      const auto woken = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
        return stop_ || !entries_.empty();
      };
      mutex_.Await(absl::Condition(&woken));
      if (stop_) return;
      entry = entries_.front();
      entries_.pop_front();
    }
    absl::Status status = (*entry->work)();
    absl::MutexLock lock(&mutex_);
    entry->status = std::move(status);  // the caller's alone
    entry->done = true;
  }
}

}  // namespace forecache
