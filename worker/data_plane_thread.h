// The thread that owns the worker's side of the data plane.
//
// UCX wants one thread a worker, and the decode loop wants no waiting: so one
// thread moves all messages, and runs what the decode thread posts to it.  It
// sleeps when there is nothing to do.
#ifndef FORECACHE_WORKER_DATA_PLANE_THREAD_H_
#define FORECACHE_WORKER_DATA_PLANE_THREAD_H_

#include <atomic>
#include <deque>
#include <functional>
#include <future>
#include <memory>
#include <span>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "kvstore/client/group_control.h"
#include "kvstore/client/store_group.h"
#include "transport/transport.h"

namespace forecache {

// Threads: Post and Run from any thread but its own; client() on its own.
class DataPlaneThread {
 public:
  // Takes the transport over and starts the thread.  `sessions` outlives it.
  DataPlaneThread(std::unique_ptr<Transport> transport, Clock* clock,
                  GroupSessions* sessions);
  // Stops when the commands posted so far have run.
  ~DataPlaneThread();

  // Connects to a store; blocks until it answered, at most kConnectTimeout.
  absl::Status Connect(int member, const StoreAddress& store);

  // What GroupControl needs of it.
  GroupDataPlane ForControl();

  // Runs `command` on the thread, soon.  Blocks while kCommandQueueMax
  // commands wait.
  void Post(std::function<void()> command);

  // Runs `command` on the thread and waits for its end.
  void Run(std::function<void()> command);

  // REQUIRES: on the thread, from inside a command.
  StoreGroup* client() { return client_.get(); }

  // Whether requests wait for a store that died (StoreGroup::IsHolding).
  // Threads: safe to call from any thread.
  bool IsHolding() const { return holding_.load(std::memory_order_relaxed); }

  // Safe from any thread, once connected.
  std::string transport_name() const;
  DataClientCounters Counters();
  StoreGroupCounters GroupCounters();

 private:
  // What a call that `start` begins on the thread ends with.
  std::future<absl::Status> Ask(
      const std::function<absl::Status(DataClient::Done)>& start);
  absl::Status Restore(uint64_t session, const SessionHandle& now,
                       std::span<const uint32_t> held);
  void Loop();
  bool RunCommands();
  bool HasRoom() const ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return commands_.size() < static_cast<size_t>(kCommandQueueMax);
  }

  Clock* const clock_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<StoreGroup> client_;
  mutable absl::Mutex mutex_;
  std::deque<std::function<void()>> commands_ ABSL_GUARDED_BY(mutex_);
  std::string transport_name_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> stop_{false};
  std::atomic<bool> holding_{false};
  std::thread thread_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_DATA_PLANE_THREAD_H_
