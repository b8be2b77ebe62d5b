#include "kvstore/scan_pool.h"

#include <pthread.h>

#include <utility>

#include "common/check.h"
#include "common/limits.h"

namespace forecache {
namespace {

// Jobs that bulk leaves to corrections.
constexpr size_t kUrgentJobs = 8;

ScanJob* TakeFirst(std::vector<ScanJob*>* jobs) {
  ScanJob* first = jobs->front();
  jobs->erase(jobs->begin());  // there are a few
  return first;
}

}  // namespace

ScanPool::ScanPool(int threads, ProbeSource source, Clock* clock,
                   std::function<void()> on_done)
    : source_(source),
      clock_(clock),
      on_done_(std::move(on_done)),
      bulk_left_(threads + 1),
      inline_{Prober(source), Corrector(source)} {
  FC_CHECK(threads >= 0 && threads <= kScanThreadsMax) << threads;
  const size_t count = bulk_left_ + threads + kUrgentJobs;
  absl::MutexLock lock(&mu_);
  for (auto* list : {&free_, &urgent_, &bulk_, &done_}) list->reserve(count);
  for (size_t i = 0; i < count; ++i) {
    jobs_.push_back(std::make_unique<ScanJob>());
    free_.push_back(jobs_.back().get());
  }
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
}

ScanPool::~ScanPool() {
  {
    absl::MutexLock lock(&mu_);
    stop_ = true;
  }
  for (std::thread& thread : threads_) thread.join();
}

ScanJob* ScanPool::TakeFree(bool urgent) {
  if (free_.empty() || (!urgent && bulk_left_ == 0)) return nullptr;
  ScanJob* job = free_.back();
  free_.pop_back();
  job->urgent = urgent;
  if (!urgent) --bulk_left_;
  return job;
}

void ScanPool::Return(ScanJob* job) {
  if (!job->urgent) ++bulk_left_;
  free_.push_back(job);
}

void ScanPool::Submit(ScanJob* job) {
  if (threads_.empty()) {
    Scan(&inline_, job);
    absl::MutexLock lock(&mu_);
    done_.push_back(job);
    ++done_count_;
    return;
  }
  absl::MutexLock lock(&mu_);
  (job->urgent ? urgent_ : bulk_).push_back(job);
}

ScanJob* ScanPool::TakeDone() {
  if (done_count_ == 0) return nullptr;
  absl::MutexLock lock(&mu_);
  --done_count_;
  return TakeFirst(&done_);
}

void ScanPool::Run() {
  pthread_setname_np(pthread_self(), "scan");
  Scanner scanner{Prober(source_), Corrector(source_)};
  for (;;) {
    ScanJob* job;
    {
      absl::MutexLock lock(&mu_);
      mu_.Await(absl::Condition(this, &ScanPool::HasWork));
      if (stop_) return;
      job = TakeFirst(urgent_.empty() ? &bulk_ : &urgent_);
    }
    Scan(&scanner, job);
    {
      absl::MutexLock lock(&mu_);
      done_.push_back(job);
      ++done_count_;
    }
    on_done_();
  }
}

void ScanPool::Scan(Scanner* scanner, ScanJob* job) const {
  const Nanos start = clock_->Now();
  if (job->correction != nullptr) {
    job->covered = scanner->corrector.CorrectHead(
        *job->session, *job->correction, job->head, job->reply, &job->picks);
  } else {
    job->covered = scanner->prober.ProbeHead(*job->session, *job->probe,
                                             job->head, job->reply);
  }
  job->took = clock_->Now() - start;
}

}  // namespace forecache
