// Which operation carries bytes to a peer fastest, measured when it connects.
//
// It runs once a peer, at the start of a connection: for each size in use it
// sends short bursts by each operation that the transport has, and takes the
// time until the peer says that all of it is there.  It costs at most
// kTransportProbeTimeout of the connection's start, up to 90 MB on the wire and
// 2 MiB of memory; traffic of others goes on meanwhile, and both share the
// wire.  Only shared memory and TCP were ever measured: the code for RDMA
// devices is the same, and has not been run on one.
#ifndef FORECACHE_TRANSPORT_TRANSPORT_PROBE_H_
#define FORECACHE_TRANSPORT_TRANSPORT_PROBE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "common/clock.h"
#include "common/limits.h"
#include "transport/transport.h"

namespace forecache {

// A block, a small push, a large push.
inline constexpr std::array<size_t, 3> kTransportSizes = {4 << 10, 64 << 10,
                                                      1 << 20};

// One operation at one size.  `status` says why it can't be used, or that
// there was no time to measure it.
struct TransportEntry {
  TransportOperation operation;
  size_t size;
  absl::Status status = absl::DeadlineExceededError("no time was left");
  double bytes_per_second = 0;
};

// What is best at one size.
struct TransportChoice {
  size_t size = 0;
  // Of all operations.
  TransportOperation fastest = TransportOperation::kAuto;
  double fastest_bytes_per_second = 0;
  // Of those that Send can take; the endpoint prefers it from now on.
  TransportOperation message = TransportOperation::kAuto;
  double message_bytes_per_second = 0;
};

struct TransportTable {
  std::string peer;
  std::string transport;
  std::vector<TransportEntry> entries;
  std::array<TransportChoice, kTransportSizes.size()> choices;
  Nanos took = 0;
  // kDeadlineExceeded: what there was no time for has no figures.
  // kUnavailable: the peer went away.
  absl::Status status;
};

// Measures the way to peers, and answers peers that measure theirs.  A process
// has one for each transport, and gives it the messages that it does not know.
//
// Lifetime: destroy it after its Transport: sends under way use its memory.
// Threads: the transport's thread.
class TransportProbe {
 public:
  using Done = std::function<void(const TransportTable&)>;

  explicit TransportProbe(Transport* transport, Clock* clock = Clock::Real());
  ~TransportProbe();
  TransportProbe(const TransportProbe&) = delete;
  TransportProbe& operator=(const TransportProbe&) = delete;

  // Begins to measure the way to `peer`, whose process must have a
  // TransportProbe too; without one the result has no figures.  `done` is
  // called from OnMessage, OnDisconnect or Tick, within `timeout`.
  // REQUIRES: no probe of this peer is running.
  void Start(Endpoint* peer, Done done,
             Nanos timeout = kTransportProbeTimeout);
  bool running() const { return !runs_.empty(); }

  // For the owner's MessageHandler.  True when the message was of a probe.
  bool OnMessage(Endpoint* from, ByteView header, ByteView payload);
  void OnDisconnect(Endpoint* from);
  // For the owner's loop, after each Progress: ends what ran out of time.
  void Tick();

  // Lets go of what is running, without a done, and of the scratch memory's
  // registration, which must go before the transport does.
  void Stop();

 private:
  struct Run;
  struct Answer {
    uint32_t step = 0;
    uint32_t received = 0;
  };

  void AnswerOpen(Endpoint* from);
  void AnswerData(Endpoint* from, uint32_t step, uint32_t expected);
  void OnAck(Endpoint* from, uint32_t step);
  // Starts the current step of the run, or ends the run after its last one.
  void Step(const std::shared_ptr<Run>& run);
  // After the last entry: whether to go through the table once more.
  bool NextRound(const std::shared_ptr<Run>& run);
  absl::Status StartOne(const std::shared_ptr<Run>& run);
  void OnDone(const std::shared_ptr<Run>& run, uint32_t step,
              const absl::Status& status);
  void Advance(const std::shared_ptr<Run>& run);
  void End(const std::shared_ptr<Run>& run, const absl::Status& status);

  Transport* const transport_;
  Clock* const clock_;
  std::vector<std::byte> source_;   // what is sent, and what a get fills
  std::vector<std::byte> scratch_;  // what peers put to and get from
  std::unique_ptr<MemoryRegion> region_;
  std::string key_;
  uint32_t last_step_ = 0;
  std::unordered_map<Endpoint*, std::shared_ptr<Run>> runs_;
  std::unordered_map<Endpoint*, Answer> answers_;
};

// The table in the words of the log: "mailbox 4K 3.1 64K 20.0 1M 9.9, ...",
// in GB/s.
std::string FormatTable(const TransportTable& result);
// What Send takes: "4K mailbox, 64K mailbox, 1M rendezvous".
std::string FormatChoices(const TransportTable& result);
// Why operations have no figure, each reason once: "put: ...; get: ...".
std::string FormatFailures(const TransportTable& result);
// "4K", "1M".
std::string TransportSizeName(size_t size);

}  // namespace forecache

#endif  // FORECACHE_TRANSPORT_TRANSPORT_PROBE_H_
