// What is under way on the endpoints of one UcxTransport.
#ifndef FORECACHE_TRANSPORT_UCX_OPERATIONS_H_
#define FORECACHE_TRANSPORT_UCX_OPERATIONS_H_

#include <ucp/api/ucp.h>

#include <array>
#include <deque>
#include <utility>
#include <vector>

#include "transport/transport.h"
#include "transport/ucx_address.h"

namespace forecache::ucx_internal {

class UcxEndpoint;

// A send or put from its start to its done.  UCX reads `header` meanwhile.
struct UcxOperation {
  UcxEndpoint* endpoint = nullptr;  // null: free
  Endpoint::Done done;
  ucs_status_t result = UCS_OK;
  ByteView payload;              // of a message that waits for a mailbox
  size_t header_bytes = 0;       // the user's, after the frame
  UcxOperation* next = nullptr;  // that waits
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
  size_t under_way() const { return storage_.size() - free_.size(); }
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

}  // namespace forecache::ucx_internal

#endif  // FORECACHE_TRANSPORT_UCX_OPERATIONS_H_
