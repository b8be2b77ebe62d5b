#include "kvstore/daemon_loop.h"

#include <algorithm>
#include <utility>

#include "common/limits.h"
#include "common/log.h"

namespace forecache {
namespace {

constexpr Nanos kTick = kSecond;
// How soon a drain that gRPC asked for, or the last session's end, is seen.
constexpr Nanos kLook = 100 * kMillisecond;

}  // namespace

DaemonLoop::DaemonLoop(StoreCore* store, DaemonLoopOptions options)
    : store_(store),
      options_(std::move(options)),
      clock_(store->clock()),
      drain_timeout_(options_.drain_timeout) {}

void DaemonLoop::RequestDrain(std::optional<Nanos> timeout) {
  absl::MutexLock lock(&mutex_);
  drain_requested_ = true;
  if (timeout) drain_timeout_ = std::min(*timeout, kDrainTimeoutMax);
}

void DaemonLoop::Run() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  last_tick_ = last_beat_ = clock_->Now();
  for (;;) {
    const timespec look{kLook / kSecond, kLook % kSecond};
    const int signal = sigtimedwait(&signals, nullptr, &look);
    if (signal > 0 && OnSignal(signal) == Next::kStop) return;
    bool requested;
    {
      absl::MutexLock lock(&mutex_);
      requested = drain_requested_;
    }
    if (requested && drain_end_ == 0) BeginDrain();
    Tick();
    if (drain_end_ == 0) continue;
    const size_t sessions = store_->Occupancy().sessions;
    if (sessions > 0 && clock_->Now() < drain_end_) continue;
    LogInfo("drained", {{"sessions_cut_off", sessions}});
    return;
  }
}

DaemonLoop::Next DaemonLoop::OnSignal(int signal) {
  if (signal == SIGHUP) {
    if (options_.on_hangup) options_.on_hangup();
    return Next::kGoOn;
  }
  LogInfo("stopping", {{"signal", signal}});
  if (signal == SIGINT || drain_end_ != 0) return Next::kStop;
  RequestDrain(std::nullopt);
  return Next::kGoOn;
}

void DaemonLoop::BeginDrain() {
  Nanos timeout;
  {
    absl::MutexLock lock(&mutex_);
    timeout = drain_timeout_;
  }
  drain_end_ = clock_->Now() + timeout;
  store_->StopOpening();
  if (options_.on_drain) options_.on_drain();
  LogInfo("draining", {{"sessions", store_->Occupancy().sessions},
                       {"timeout_ms", timeout / kMillisecond}});
}

void DaemonLoop::Tick() {
  const Nanos now = clock_->Now();
  if (now - last_tick_ < kTick) return;
  last_tick_ = now;
  if (options_.on_tick) options_.on_tick();
  store_->ExpireIdle();
  store_->UpdateGauges();
  if (now - last_beat_ < kHeartbeatInterval) return;
  last_beat_ = now;
  Beat();
}

// Idle or not: its absence should mean that the daemon hangs.
void DaemonLoop::Beat() {
  const StoreMetrics& metrics = store_->metrics();
  const double put = metrics.blocks_put->Value();
  const double pushed = metrics.blocks_pushed->Value();
  const double probes = metrics.probes->Value();
  const StoreOccupancy now = store_->Occupancy();
  LogInfo("heartbeat",
          {{"sessions", now.sessions},
           {"segments", now.segments},
           {"open_segments", now.open_segments},
           {"dram_mib", now.dram_bytes >> 20},
           {"dram_capacity_mib", now.dram_capacity_bytes >> 20},
           {"blocks_put", put - put_},
           {"blocks_pushed", pushed - pushed_},
           {"probes", probes - probes_},
           {"evicted", metrics.segments_evicted->Value()},
           {"refused", metrics.blocks_refused_put->Value() +
                           metrics.blocks_refused_read->Value()}});
  put_ = put;
  pushed_ = pushed;
  probes_ = probes;
}

}  // namespace forecache
