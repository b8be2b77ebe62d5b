// The transport over one UCX worker.  Private to ucx_transport.
#ifndef FORECACHE_TRANSPORT_UCX_WORKER_H_
#define FORECACHE_TRANSPORT_UCX_WORKER_H_

#include <ucp/api/ucp.h>

#include <atomic>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/clock.h"
#include "transport/transport.h"
#include "transport/ucx_address.h"
#include "transport/ucx_endpoint.h"
#include "transport/ucx_receive.h"
#include "transport/ucx_transport.h"

namespace forecache::ucx_internal {

// How long a close may take before callers get their buffers back.
inline constexpr Nanos kCloseTimeout = 2 * kSecond;

// Each message begins with a Frame that names its sender, and each connection
// with a hello that carries the sender's address: so the receiver opens its own
// way back, and learns of the sender's death as the sender learns of its own.
//
// Threads: as Transport says.
class UcxTransport : public Transport {
 public:
  static absl::StatusOr<std::unique_ptr<Transport>> Open(
      const UcxOptions& options);
  ~UcxTransport() override;

  void SetHandler(MessageHandler* handler) override { handler_ = handler; }
  std::string Address() const override { return packed_address_; }
  absl::StatusOr<Endpoint*> Connect(const std::string& address) override;
  void Close(Endpoint* endpoint) override;
  absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(
      MutableBytes memory) override;
  TransportCounts Counts() const override {
    return {endpoints_.size() + replaced_.size() + retired_.size(),
            operations_.under_way(), receiver_->under_way()};
  }
  int Progress() override;
  void Wait(Nanos timeout) override;
  void Wake() override;

 private:
  UcxTransport() = default;
  absl::Status OpenWorker();
  absl::StatusOr<UcxEndpoint*> OpenEndpoint(UcxAddress peer,
                                            uint32_t peer_connection);
  // Takes the endpoint out of use; UCX hears of it in the next Sweep.
  void Retire(UcxEndpoint* endpoint);
  // Starts the closes that wait, and frees endpoints that nothing points to.
  int Sweep();
  // Lets connections that UCX makes by itself come to an end; false: they do
  // not in time, and the worker must not be destroyed.
  bool Flush();
  int ReportFailures();

  // The peer has answered: what can be shared with it, is.
  void ShareMemory(UcxEndpoint* endpoint);
  // Takes messages out of the endpoint's mailbox.  Returns how many.
  int Drain(UcxEndpoint* endpoint);
  int ProgressMailboxes();
  // Wakes the peers that sleep on what we wrote or took.
  void RingDoorbells();
  // Before a sleep.  False when there is something to do.
  bool PutMailboxesToSleep();
  void Sleep(Nanos timeout);

  void OnFrame(const Frame& frame, ByteView header, ByteView payload);
  void OnHello(const Frame& frame, ByteView payload);
  // The endpoint that a message or bye belongs to; null when it is stale.
  UcxEndpoint* Sender(const Frame& frame);
  static ucs_status_t OnActiveMessage(void* transport, const void* header,
                                      size_t header_size, void* data,
                                      size_t size,
                                      const ucp_am_recv_param_t* param);
  static void OnEndpointError(void* endpoint, ucp_ep_h ep, ucs_status_t status);

  ucp_context_h context_ = nullptr;
  ucp_worker_h worker_ = nullptr;
  int worker_fd_ = -1;
  int wake_fd_ = -1;
  std::atomic<bool> woken_{false};
  int busy_waits_ = 0;
  bool tcp_rendezvous_ = false;
  bool use_mailboxes_ = true;
  bool in_progress_ = false;
  bool ending_ = false;

  MessageHandler* handler_ = nullptr;
  UcxAddress address_;
  std::string packed_address_;
  uint32_t last_connection_ = 0;
  UcxOperations operations_;
  std::unique_ptr<UcxReceiver> receiver_;
  std::unordered_map<uint64_t, std::unique_ptr<UcxEndpoint>> endpoints_;
  std::vector<UcxEndpoint*> with_mailbox_;
  // Failed, and a new endpoint to the same peer has their place already.
  std::vector<std::unique_ptr<UcxEndpoint>> replaced_;
  std::vector<UcxEndpoint*> failed_;  // OnDisconnect is due
  std::vector<std::unique_ptr<UcxEndpoint>> retired_;
  size_t closes_started_ = 0;  // the first so many of retired_
};

}  // namespace forecache::ucx_internal

#endif  // FORECACHE_TRANSPORT_UCX_WORKER_H_
