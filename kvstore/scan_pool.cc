#include "kvstore/scan_pool.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/limits.h"

namespace forecache {
namespace {

// Jobs that bulk leaves to corrections.
constexpr size_t kUrgentJobs = 8;

}  // namespace

ScanPool::ScanPool(int threads, ProbeSource source, Clock* clock,
                   std::function<void()> on_done)
    : clock_(clock),
      bulk_left_(threads + 1),
      threads_("scan", threads, std::move(on_done)) {
  FC_CHECK(threads >= 0 && threads <= kScanThreadsMax) << threads;
  const size_t count = bulk_left_ + threads + kUrgentJobs;
  absl::MutexLock lock(&mu_);
  done_.reserve(count);
  free_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    jobs_.push_back(std::make_unique<ScanJob>());
    free_.push_back(jobs_.back().get());
  }
  for (int i = 0; i < std::max(threads, 1); ++i) {
    scanners_.push_back(std::make_unique<Scanner>(Prober(source),
                                                  Corrector(source)));
  }
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
  threads_.Submit([this, job] { Scan(job); }, job->urgent);
}

ScanJob* ScanPool::TakeDone() {
  if (done_count_ == 0) return nullptr;
  absl::MutexLock lock(&mu_);
  --done_count_;
  ScanJob* first = done_.front();
  done_.erase(done_.begin());  // there are a few
  return first;
}

void ScanPool::Scan(ScanJob* job) {
  std::unique_ptr<Scanner> scanner;  // one for each thread
  {
    absl::MutexLock lock(&mu_);
    scanner = std::move(scanners_.back());
    scanners_.pop_back();
  }
  const Nanos start = clock_->Now();
  if (job->correction != nullptr) {
    job->covered = scanner->corrector.CorrectHead(
        *job->session, *job->correction, job->head, job->reply, &job->picks);
  } else {
    job->covered = scanner->prober.ProbeHead(*job->session, *job->probe,
                                             job->head, job->reply);
  }
  job->took = clock_->Now() - start;
  absl::MutexLock lock(&mu_);
  scanners_.push_back(std::move(scanner));
  done_.push_back(job);
  ++done_count_;
}

}  // namespace forecache
