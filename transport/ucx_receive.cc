#include "transport/ucx_receive.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/limits.h"
#include "common/log.h"
#include "transport/transport.h"

namespace forecache::ucx_internal {

UcxReceiver::UcxReceiver(ucp_worker_h worker,
                         std::function<void(const UcxReceive&)> arrived)
    : worker_(worker), arrived_(std::move(arrived)) {}

UcxReceiver::~UcxReceiver() = default;

void UcxReceiver::Start(const Frame& frame, ByteView header, void* descriptor,
                        size_t size) {
  std::unique_ptr<UcxReceive> receive = Take(size);
  receive->receiver = this;
  receive->frame = frame;
  receive->header.assign(header.begin(), header.end());
  receive->descriptor = descriptor;
  receive->size = size;
  // In turn, so that a large message is not overtaken for ever.
  if (!waiting_.empty() || bytes_ + size > kReceiveBytesMax) {
    waiting_.push_back(std::move(receive));
  } else {
    Fetch(std::move(receive));
  }
}

std::unique_ptr<UcxReceive> UcxReceiver::Take(size_t size) {
  for (size_t i = free_.size(); i-- > 0;) {
    if (free_[i]->capacity < size) continue;
    std::swap(free_[i], free_.back());
    std::unique_ptr<UcxReceive> receive = std::move(free_.back());
    free_.pop_back();
    idle_bytes_ -= receive->capacity;
    return receive;
  }
  auto receive = std::make_unique<UcxReceive>();
  receive->header.reserve(kHeaderBytesMax);
  // To a power of two, so that a few sizes serve all.  Not zeroed: UCX fills
  // it.
  receive->capacity = std::bit_ceil(std::max<size_t>(size, 4096));
  receive->buffer =
      std::make_unique_for_overwrite<std::byte[]>(receive->capacity);
  return receive;
}

int UcxReceiver::StartWaiting() {
  int count = 0;
  while (!waiting_.empty() &&
         bytes_ + waiting_.front()->size <= kReceiveBytesMax) {
    std::unique_ptr<UcxReceive> receive = std::move(waiting_.front());
    waiting_.pop_front();
    Fetch(std::move(receive));
    ++count;
  }
  return count;
}

void UcxReceiver::DropWaiting() {
  for (auto& receive : waiting_) {
    ucp_am_data_release(worker_, receive->descriptor);
  }
  waiting_.clear();
}

void UcxReceiver::Fetch(std::unique_ptr<UcxReceive> receive) {
  bytes_ += receive->size;
  ++under_way_;
  ucp_request_param_t param = {};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.recv_am = &UcxReceiver::OnReceived;
  param.user_data = receive.get();
  ucs_status_ptr_t request =
      ucp_am_recv_data_nbx(worker_, receive->descriptor,
                           receive->buffer.get(), receive->size, &param);
  UcxReceive* started = receive.release();
  if (!UCS_PTR_IS_PTR(request)) Finish(started, UCS_PTR_STATUS(request));
}

void UcxReceiver::OnReceived(void* request, ucs_status_t status, size_t,
                             void* receive) {
  ucp_request_free(request);
  auto* ended = static_cast<UcxReceive*>(receive);
  ended->receiver->Finish(ended, status);
}

void UcxReceiver::Finish(UcxReceive* receive, ucs_status_t status) {
  std::unique_ptr<UcxReceive> ended(receive);
  if (status == UCS_OK) {
    arrived_(*ended);
  } else if (status != UCS_ERR_CANCELED) {
    LogWarning("a large message did not arrive",
               {{"bytes", ended->size}, {"error", ucs_status_string(status)}});
  }
  bytes_ -= ended->size;
  --under_way_;
  // Kept with its buffer, as far as idle buffers stay within the bound.
  if (idle_bytes_ + ended->capacity <= kReceiveIdleBytesMax) {
    idle_bytes_ += ended->capacity;
    free_.push_back(std::move(ended));
  }
}

}  // namespace forecache::ucx_internal
