// One peer of a UcxTransport, and the operations on the way to it.
#ifndef FORECACHE_TRANSPORT_UCX_ENDPOINT_H_
#define FORECACHE_TRANSPORT_UCX_ENDPOINT_H_

#include <ucp/api/ucp.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "transport/transport.h"
#include "transport/ucx_address.h"
#include "transport/ucx_mailbox.h"
#include "transport/ucx_operations.h"

namespace forecache::ucx_internal {

// Threads: the transport's thread.
class UcxEndpoint : public Endpoint {
 public:
  UcxEndpoint(UcxAddress peer, uint64_t local_id, uint32_t connection,
              UcxOperations* operations, std::vector<UcxEndpoint*>* failed);
  // REQUIRES: idle() and closed by UCX.
  ~UcxEndpoint() override;

  absl::Status Send(ByteView header, ByteView payload, Done done) override;
  absl::Status Put(ByteView source, const std::string& remote_key,
                   uint64_t offset, Done done) override;
  absl::Status Get(MutableBytes target, const std::string& remote_key,
                   uint64_t offset, Done done) override;
  absl::Status SendBy(TransportOperation operation, ByteView header,
                      ByteView payload, Done done) override;
  MutableBytes Reserve(size_t payload_bytes) override;
  void Commit(ByteView header, size_t payload_bytes) override;
  void Prefer(size_t size_from, TransportOperation operation) override;
  bool HasMailbox() const override {
    return mailbox_ != nullptr && mailbox_->outgoing();
  }
  std::string TransportName() const override;
  std::string PeerName() const override { return peer_.PeerName(); }

  // Opens UCX's endpoint and sends the hello with `local_address`, which must
  // stay.  `failed` is called, from inside ucp_worker_progress, with this.
  absl::Status Open(ucp_worker_h worker, const std::string& local_address,
                    bool tcp_rendezvous, ucp_err_handler_cb_t failed);
  void SendBye();
  // Opens memory for what comes from the peer, and tells it.
  absl::Status OfferMailbox();
  // The peer's offer: what we send goes there from now on.
  // REQUIRES: OfferMailbox was called.
  void AcceptMailbox(const std::string& key);
  UcxMailbox* mailbox() { return mailbox_.get(); }
  void RingDoorbell();
  // Starts to close by force: operations under way end soon, but for those
  // that wait in a dead peer's full queue.
  void StartClose();
  Nanos close_started() const { return close_started_; }
  // True when UCX is done with a close, and all operations ended.
  bool Buried();

  // The first failure counts, and lists the endpoint in `failed`.
  void MarkFailed(const absl::Status& why);
  const absl::Status& failure() const { return failure_; }
  bool orphaned = false;  // what was under way has ended for its callers
  bool closing() const { return closing_; }
  // No sends from now on; what waits for a mailbox ends.
  void MarkClosing();

  const UcxAddress& peer() const { return peer_; }
  uint32_t connection() const { return connection_; }
  uint32_t peer_connection = 0;  // as its hello said; 0 before

 private:
  friend class UcxOperations;

  struct RemoteRegion {
    ucp_rkey_h rkey;
    uint64_t base;
    uint64_t size;
  };

  absl::Status Admit() const;
  absl::Status Check(ByteView header, ByteView payload) const;
  // The operation that Send takes for a payload of this size.
  TransportOperation Choice(size_t size) const;
  absl::Status SendByMailbox(ByteView header, ByteView payload, Done done);
  void Fill(UcxOperation* operation, FrameKind kind, ByteView header) const;
  absl::Status Start(FrameKind kind, ByteView header, ByteView payload,
                     Done done, uint32_t flags);
  absl::StatusOr<const RemoteRegion*> Region(const std::string& remote_key);
  // The region, when [offset, offset + size) lies in it.
  absl::StatusOr<const RemoteRegion*> Range(const std::string& remote_key,
                                            uint64_t offset, size_t size);
  // Put or Get; a put leaves `local` unchanged.
  absl::Status Reach(TransportOperation operation, MutableBytes local,
                     const std::string& remote_key, uint64_t offset,
                     Done done);
  static void OnSent(void* request, ucs_status_t status, void* operation);
  static void OnPut(void* request, ucs_status_t status, void* operation);
  static void StartFlush(UcxOperation* operation);

  const UcxAddress peer_;
  const uint64_t local_id_;
  const uint32_t connection_;
  UcxOperations* const operations_;
  std::vector<UcxEndpoint*>* const failed_;
  ucp_ep_h ep_ = nullptr;
  void* close_request_ = nullptr;
  absl::Status failure_;
  std::unique_ptr<UcxMailbox> mailbox_;
  uint32_t send_flags_ = 0;
  // By the power of two of the size; kAuto where nothing is preferred.
  std::array<TransportOperation, 24> preferred_ = {};
  bool closing_ = false;
  Nanos close_started_ = 0;
  int under_way_ = 0;
  std::unordered_map<std::string, RemoteRegion> regions_;
  mutable std::string transport_name_;
};

}  // namespace forecache::ucx_internal

#endif  // FORECACHE_TRANSPORT_UCX_ENDPOINT_H_
