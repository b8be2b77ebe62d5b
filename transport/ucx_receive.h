// Large messages that arrive by rendezvous: a buffer each, from a bounded pool.
#ifndef FORECACHE_TRANSPORT_UCX_RECEIVE_H_
#define FORECACHE_TRANSPORT_UCX_RECEIVE_H_

#include <ucp/api/ucp.h>

#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "common/bytes.h"
#include "transport/ucx_address.h"

namespace forecache::ucx_internal {

// A message whose payload is on its way into `buffer`.
struct UcxReceive {
  class UcxReceiver* receiver = nullptr;
  Frame frame;
  std::vector<std::byte> header;  // the user's
  void* descriptor = nullptr;     // UCX's, until the transfer starts
  size_t size = 0;
  std::unique_ptr<std::byte[]> buffer;
  size_t capacity = 0;
};

// Fetches what was announced, as far as kReceiveBytesMax allows; the rest waits
// with its sender.
//
// Threads: the transport's thread.
class UcxReceiver {
 public:
  // `arrived` gets each message that came whole.  It may be called from inside
  // Start.
  UcxReceiver(ucp_worker_h worker,
              std::function<void(const UcxReceive&)> arrived);
  ~UcxReceiver();

  // Takes over the announced message.  For use in the active message handler,
  // which then returns UCS_INPROGRESS.
  void Start(const Frame& frame, ByteView header, void* descriptor,
             size_t size);
  // Starts what waits, where buffers came free.  Returns how many.
  int StartWaiting();
  // Lets go of what waits; what is under way ends with its endpoint.
  void DropWaiting();
  size_t under_way() const { return under_way_; }

 private:
  // With room for `size` bytes, the last used first.
  std::unique_ptr<UcxReceive> Take(size_t size);
  void Fetch(std::unique_ptr<UcxReceive> receive);
  void Finish(UcxReceive* receive, ucs_status_t status);
  static void OnReceived(void* request, ucs_status_t status, size_t length,
                         void* receive);

  const ucp_worker_h worker_;
  const std::function<void(const UcxReceive&)> arrived_;
  size_t bytes_ = 0;  // of the messages under way
  size_t under_way_ = 0;
  size_t idle_bytes_ = 0;  // of free_
  std::vector<std::unique_ptr<UcxReceive>> free_;
  std::deque<std::unique_ptr<UcxReceive>> waiting_;
};

}  // namespace forecache::ucx_internal

#endif  // FORECACHE_TRANSPORT_UCX_RECEIVE_H_
