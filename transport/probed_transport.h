// A Transport that measures the way to each peer when it connects.
#ifndef FORECACHE_TRANSPORT_PROBED_TRANSPORT_H_
#define FORECACHE_TRANSPORT_PROBED_TRANSPORT_H_

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/metrics.h"
#include "common/monotonic_cond.h"
#include "transport/transport.h"
#include "transport/transport_probe.h"

namespace forecache {

struct ProbedTransportOptions {
  // Off, peers' probes are still answered, but none is started: for tests that
  // count messages.
  bool probe = true;
  // Where the choices are exported; null: nowhere.  Outlives the transport.
  Metrics* metrics = nullptr;
  Clock* clock = Clock::Real();
};

// Wraps a transport.  The side that called Connect measures its way when the
// peer has first answered, then the peer measures the way back, both within
// kTransportProbeTimeout.  Both ends have to be wrapped: a peer that does not
// answer costs the time and changes nothing.  Messages of probes never reach
// the handler, all others pass unchanged, also meanwhile.
//
// Threads: as Transport says, but AwaitSettled, which is for others.
class ProbedTransport : public Transport, private MessageHandler {
 public:
  ProbedTransport(std::unique_ptr<Transport> inner,
                  const ProbedTransportOptions& options);
  ~ProbedTransport() override;

  // Blocks until no peer that this side connected to is being measured, at
  // most `timeout`.  From the moment at which its first answer arrives it is.
  // Threads: any but the transport's.
  void AwaitSettled(Nanos timeout);

  void SetHandler(MessageHandler* handler) override;
  std::string Address() const override { return inner_->Address(); }
  absl::StatusOr<Endpoint*> Connect(const std::string& address) override;
  void Close(Endpoint* endpoint) override;
  absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(
      MutableBytes memory) override {
    return inner_->Register(memory);
  }
  TransportCounts Counts() const override { return inner_->Counts(); }
  int Progress() override;
  void Wait(Nanos timeout) override;
  void Wake() override { inner_->Wake(); }

 private:
  enum class Phase {
    kNew,        // waits for the peer's first answer, or for our turn
    kWaking,     // for the mailbox, which opens in the background
    kMeasuring,  // our way to the peer
    kTheirTurn,  // the peer measures its way to us
    kSettled,
  };
  struct Peer {
    bool connected_by_us = false;
    bool awaited = false;  // counts in unsettled_
    Phase phase = Phase::kNew;
    Nanos since = 0;  // of the phase
    int slot = -1;    // of the metrics; -1: not exported
  };

  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override;
  void OnDisconnect(Endpoint* from, const absl::Status& why) override;

  void SetPhase(Peer& peer, Phase phase);
  // True when it was a message of ours.
  bool TakeTurn(Endpoint* from, ByteView header);
  void Measure(Endpoint* endpoint);
  void OnMeasured(Endpoint* endpoint, const TransportTable& table);
  void Advance();
  void Forget(Endpoint* endpoint);
  int TakeSlot();
  void Export(Peer& peer, const TransportTable& table);
  void Withdraw(const Peer& peer);

  const ProbedTransportOptions options_;
  // Before the transport that may still send from its memory.
  std::unique_ptr<TransportProbe> probe_;
  std::unique_ptr<Transport> inner_;
  MessageHandler* handler_ = nullptr;
  std::unordered_map<Endpoint*, Peer> peers_;
  std::vector<bool> slots_;
  // The gauges of a slot, to be zeroed when its peer has gone.
  std::vector<std::vector<Gauge*>> gauges_;
  int moving_ = 0;  // peers in a phase between kNew and kSettled
  absl::Mutex mutex_;
  MonotonicCond settled_;  // unsettled_ is 0
  int unsettled_ ABSL_GUARDED_BY(mutex_) = 0;  // those that we connected to
};

}  // namespace forecache

#endif  // FORECACHE_TRANSPORT_PROBED_TRANSPORT_H_
