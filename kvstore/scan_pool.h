// Threads that scan KV heads for probes and corrections.
#ifndef FORECACHE_KVSTORE_SCAN_POOL_H_
#define FORECACHE_KVSTORE_SCAN_POOL_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "kvstore/correction.h"
#include "kvstore/gather.h"
#include "kvstore/probe.h"
#include "kvstore/session.h"
#include "kvstore/side_threads.h"

namespace forecache {

// One KV head to be scanned, and what came of it.
//
// Threads: its owner's, but between Submit and TakeDone a scan thread's.
struct ScanJob {
  void* request = nullptr;  // who asked: the owner knows
  bool urgent = false;      // as TakeFree was told
  const SessionSnapshot* session = nullptr;
  // One of the two.
  const ProbeRequest* probe = nullptr;
  const CorrectionRequest* correction = nullptr;
  int head = 0;
  // The whole reply; the head's share of it is written.
  MutableBytes reply;

  size_t covered = 0;  // bytes of 16-bit keys
  Nanos took = 0;
  std::vector<wire::FetchEntry> picks;  // of a correction: what to push

  // The owner's, while it pushes the picks.
  size_t pushed = 0;
  int packed_buffer = -1;
  PackedPush packed;
  int gather = -1;  // of DeviceGathers, that packs into packed_buffer
};

// A fixed number of jobs and of threads.  The owner takes a free job, fills it
// in, submits it, and gets it back by TakeDone: a job belongs to one side at
// any time, so that only the lists are behind a lock.  What the owner does not
// submit yet waits in its own queues, in an order that it may still change.
//
// Without threads Submit runs the job itself.
//
// Threads: one owner; `on_done` is called on scan threads.
// Lifetime: what a job names must stay until TakeDone returned it, or the pool
// has gone.  The pool goes when the scans that run have ended, without the
// others.
class ScanPool {
 public:
  // REQUIRES: 0 <= threads <= kScanThreadsMax.
  ScanPool(int threads, ProbeSource source, Clock* clock,
           std::function<void()> on_done);
  ScanPool(const ScanPool&) = delete;
  ScanPool& operator=(const ScanPool&) = delete;

  int threads() const { return threads_.threads(); }
  size_t jobs() const { return jobs_.size(); }
  // Null when all are in use; for bulk when so many are that every thread has
  // its next one.
  ScanJob* TakeFree(bool urgent);
  // Urgent jobs are begun before all others.
  void Submit(ScanJob* job);
  // A job that was scanned; null when there is none.  Give it back by Return.
  ScanJob* TakeDone();
  void Return(ScanJob* job);

 private:
  // What a thread scans with.
  struct Scanner {
    Prober prober;
    Corrector corrector;
  };

  void Scan(ScanJob* job);

  Clock* const clock_;
  // The owner's.
  std::vector<std::unique_ptr<ScanJob>> jobs_;
  std::vector<ScanJob*> free_;
  size_t bulk_left_;  // that may still be taken

  // Of done_, so that the owner need not lock to see that there is nothing.
  std::atomic<size_t> done_count_{0};
  absl::Mutex mu_;
  std::vector<std::unique_ptr<Scanner>> scanners_ ABSL_GUARDED_BY(mu_);
  std::vector<ScanJob*> done_ ABSL_GUARDED_BY(mu_);
  SideThreads threads_;  // the last: they use the rest
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SCAN_POOL_H_
