// What the store's main thread does from ready to exit.
#ifndef FORECACHE_KVSTORE_DAEMON_LOOP_H_
#define FORECACHE_KVSTORE_DAEMON_LOOP_H_

#include <signal.h>

#include <functional>
#include <optional>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "kvstore/store.h"

namespace forecache {

struct DaemonLoopOptions {
  // How long sessions may go on once a drain has begun.
  Nanos drain_timeout = kDrainTimeoutDefault;
  // Told when the drain begins: no new work should come.
  std::function<void()> on_drain;
  // Called once a second, and on SIGHUP.
  std::function<void()> on_tick;
  std::function<void()> on_hangup;
};

// Ticks once a second (sessions that idle, gauges), writes a heartbeat every
// kHeartbeatInterval, idle or not, and ends by a drain: no new sessions, those
// that run have `drain_timeout` to end.
//
// Threads: Run on the main thread; RequestDrain from any.
// Lifetime: the store outlives it.
class DaemonLoop {
 public:
  DaemonLoop(StoreCore* store, DaemonLoopOptions options);

  // Until SIGTERM or RequestDrain, and the drain after it, or until SIGINT,
  // which ends it at once, as a second SIGTERM does.
  // REQUIRES: both signals, and SIGHUP, are blocked in all threads.
  void Run();

  // Begins the drain, soon; a timeout replaces the option's.
  void RequestDrain(std::optional<Nanos> timeout);

 private:
  enum class Next { kGoOn, kStop };
  Next OnSignal(int signal);
  void BeginDrain();
  void Tick();
  void Beat();

  StoreCore* const store_;
  const DaemonLoopOptions options_;
  Clock* const clock_;
  Nanos last_tick_ = 0;
  Nanos last_beat_ = 0;
  Nanos drain_end_ = 0;  // 0: no drain
  double put_ = 0, pushed_ = 0, probes_ = 0;  // as of the last heartbeat
  absl::Mutex mutex_;
  bool drain_requested_ ABSL_GUARDED_BY(mutex_) = false;
  Nanos drain_timeout_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_DAEMON_LOOP_H_
