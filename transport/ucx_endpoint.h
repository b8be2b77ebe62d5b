// One peer of a UcxTransport, and the operations on the way to it.
#ifndef FORECACHE_TRANSPORT_UCX_ENDPOINT_H_
#define FORECACHE_TRANSPORT_UCX_ENDPOINT_H_

#include <ucp/api/ucp.h>

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/limits.h"
#include "transport/transport.h"
#include "transport/ucx_address.h"

namespace forecache::ucx_internal {

class UcxEndpoint;

// A send or put from its start to its done.  UCX reads `header` meanwhile.
struct UcxOperation {
  UcxEndpoint* endpoint = nullptr;  // null: free
  Endpoint::Done done;
  bool is_put = false;
  ucs_status_t result = UCS_OK;
  std::array<std::byte, sizeof(Frame) + kHeaderBytesMax> header;
};

// The operations of one transport, reused so that a message costs no malloc.
// What has ended waits for RunDones: a done called from inside UCX, or from
// inside Send, could recurse without bound.
//
// Threads: the transport's thread.
class UcxOperations {
 public:
  UcxOperation* Start(UcxEndpoint* endpoint, Endpoint::Done done);
  // Starting it failed: as if it had never been.
  void Abandon(UcxOperation* operation);
  void End(UcxOperation* operation, ucs_status_t result);
  bool HasEnded() const { return !ended_.empty() || !orphans_.empty(); }
  // Calls the dones of what ended.  Returns how many.
  int RunDones();
  // Ends for their callers what is under way to `endpoint`; for UCX it may
  // never end.
  void Orphan(UcxEndpoint* endpoint, const absl::Status& why);
  // Ends everything under way.  Only when UCX can't touch it any more.
  void CancelAll();

 private:
  void Release(UcxOperation* operation);

  std::deque<UcxOperation> storage_;
  std::vector<UcxOperation*> free_;
  std::vector<UcxOperation*> ended_;
  std::vector<UcxOperation*> running_;
  std::vector<std::pair<Endpoint::Done, absl::Status>> orphans_;
};

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
  std::string TransportName() const override;
  std::string PeerName() const override { return peer_.PeerName(); }

  // Opens UCX's endpoint and sends the hello with `local_address`, which must
  // stay.  `failed` is called, from inside ucp_worker_progress, with this.
  absl::Status Open(ucp_worker_h worker, const std::string& local_address,
                    bool tcp_rendezvous, ucp_err_handler_cb_t failed);
  void SendBye();
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
  void MarkClosing() { closing_ = true; }

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
  absl::Status Start(FrameKind kind, ByteView header, ByteView payload,
                     Done done, uint32_t flags);
  absl::StatusOr<const RemoteRegion*> Region(const std::string& remote_key);
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
  uint32_t send_flags_ = 0;
  bool closing_ = false;
  Nanos close_started_ = 0;
  int under_way_ = 0;
  std::unordered_map<std::string, RemoteRegion> regions_;
  mutable std::string transport_name_;
};

}  // namespace forecache::ucx_internal

#endif  // FORECACHE_TRANSPORT_UCX_ENDPOINT_H_
