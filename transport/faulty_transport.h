// A network that misbehaves by a seed, for tests and simulations.
#ifndef FORECACHE_TRANSPORT_FAULTY_TRANSPORT_H_
#define FORECACHE_TRANSPORT_FAULTY_TRANSPORT_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/rng.h"
#include "transport/transport.h"

namespace forecache {

// Probabilities are of one message that is sent, but for `partition`.
struct FaultOptions {
  uint64_t seed = 1;
  double drop = 0;       // it never arrives; its sender sees nothing
  double delay = 0;      // it is held back for 1 to delay_max Progress calls
  double duplicate = 0;  // it arrives twice
  double reorder = 0;    // the next message to the same peer overtakes it
  double corrupt = 0;    // one byte of header or payload arrives changed
  double death = 0;      // its peer dies: OnDisconnect, nothing arrives
  // Of one Progress call: for 1 to partition_max calls nothing passes.
  double partition = 0;
  int delay_max = 8;
  int partition_max = 32;
};

// How often each fault happened.
struct FaultCounts {
  uint64_t dropped = 0;
  uint64_t delayed = 0;
  uint64_t duplicated = 0;
  uint64_t reordered = 0;
  uint64_t corrupted = 0;
  uint64_t deaths = 0;
  uint64_t partitions = 0;
};

// Wraps a transport and does to what it sends what FaultOptions say; to harm
// both ways, wrap both ends.  Puts are delayed and corrupted only, and wait for
// the end of a partition.  The same seed and the same calls give the same
// faults: decisions never look at the time.
//
// Threads: as Transport says.
class FaultyTransport : public Transport, private MessageHandler {
 public:
  FaultyTransport(std::unique_ptr<Transport> inner,
                  const FaultOptions& options);
  ~FaultyTransport() override;

  // From now on.
  void SetFaults(const FaultOptions& options) { options_ = options; }
  // While it is on, nothing passes, in either direction.
  void SetPartitioned(bool on) { partitioned_ = on; }
  // The peer is gone: OnDisconnect in the next Progress, and silence.
  void KillPeer(Endpoint* endpoint);
  const FaultCounts& counts() const { return counts_; }
  // A hash of all decisions so far: equal seeds and calls, equal traces.
  uint32_t trace() const { return trace_; }

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
  class FaultyEndpoint;

  // A message or put, our own copy, until the inner transport took it.
  struct Held {
    std::shared_ptr<FaultyEndpoint> endpoint;
    std::vector<std::byte> header;
    std::vector<std::byte> payload;
    std::string remote_key;  // not empty: a put
    uint64_t offset = 0;
    Endpoint::Done done;
    int wait = 0;                  // Progress calls left
    bool until_overtaken = false;  // or until the wait is over
  };

  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override;
  void OnDisconnect(Endpoint* from, const absl::Status& why) override;

  FaultyEndpoint* Wrap(Endpoint* inner);
  bool Partitioned() const { return partitioned_ || partition_left_ > 0; }
  // Rolls the dice, and notes the outcome under `letter` in the trace.
  bool Happens(double chance, char letter);
  void Corrupt(Held& held);
  void Accept(Held held, bool is_put);
  // Sends what is due.  Returns how many.
  int Release();
  // False when the inner transport has no room now.
  bool Forward(Held& held);
  void CancelHeld(FaultyEndpoint* endpoint, const absl::Status& why);
  int RunEnded();

  std::unique_ptr<Transport> inner_;
  FaultOptions options_;
  Rng rng_;
  FaultCounts counts_;
  uint32_t trace_ = 0;
  bool partitioned_ = false;
  int partition_left_ = 0;  // Progress calls
  bool in_progress_ = false;
  MessageHandler* handler_ = nullptr;
  std::unordered_map<Endpoint*, std::shared_ptr<FaultyEndpoint>> endpoints_;
  std::deque<Held> held_;
  std::vector<std::pair<Endpoint::Done, absl::Status>> ended_;
  std::vector<std::shared_ptr<FaultyEndpoint>> dead_;  // OnDisconnect is due
  std::vector<std::shared_ptr<FaultyEndpoint>> closed_;
};

}  // namespace forecache

#endif  // FORECACHE_TRANSPORT_FAULTY_TRANSPORT_H_
