// The in-process twin of a Transport, for tests and simulations.
//
// It is strict where a network is: a payload is read only when the sender makes
// progress (so a buffer reused too soon shows), a message arrives only when the
// receiver makes progress, and a send is under way until the receiver took it.
#ifndef FORECACHE_TRANSPORT_LOOPBACK_TRANSPORT_H_
#define FORECACHE_TRANSPORT_LOOPBACK_TRANSPORT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "transport/transport.h"

namespace forecache {

namespace loopback_internal {
class Inbox;
class LoopbackEndpoint;
struct Link;
struct Packet;
}  // namespace loopback_internal

// Finds its peers in the same process by Address().  Messages on one endpoint
// arrive in order; closing an endpoint, or destroying the Transport, shows at
// the peer as OnDisconnect.
//
// Threads: as Transport says; each may be owned by a different thread.
class LoopbackTransport : public Transport {
 public:
  LoopbackTransport();
  ~LoopbackTransport() override;
  LoopbackTransport(const LoopbackTransport&) = delete;
  LoopbackTransport& operator=(const LoopbackTransport&) = delete;

  void SetHandler(MessageHandler* handler) override;
  std::string Address() const override;
  absl::StatusOr<Endpoint*> Connect(const std::string& address) override;
  void Close(Endpoint* endpoint) override;
  absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(
      MutableBytes memory) override;
  TransportCounts Counts() const override;
  int Progress() override;
  void Wait(Nanos timeout) override;
  void Wake() override;

 private:
  using LoopbackEndpoint = loopback_internal::LoopbackEndpoint;

  int Flush();
  void Deliver(loopback_internal::Packet& packet);
  // The endpoint of this side of the link, made when it is the first packet;
  // null when this side closed it.
  LoopbackEndpoint* Find(const std::shared_ptr<loopback_internal::Link>& link,
                         int side);
  void Remove(LoopbackEndpoint* endpoint, const absl::Status& why);

  std::shared_ptr<loopback_internal::Inbox> inbox_;
  MessageHandler* handler_ = nullptr;
  bool in_progress_ = false;
  std::map<uint64_t, std::unique_ptr<LoopbackEndpoint>> endpoints_;  // by link
  // Closed, but perhaps still on the stack: freed by the next Progress.
  std::vector<std::unique_ptr<LoopbackEndpoint>> closed_;
};

}  // namespace forecache

#endif  // FORECACHE_TRANSPORT_LOOPBACK_TRANSPORT_H_
