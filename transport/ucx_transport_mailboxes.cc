// How a UcxTransport uses the memory that it shares with peers of its host.

#include <algorithm>
#include <atomic>

#include "common/check.h"
#include "common/limits.h"
#include "common/log.h"
#include "transport/ucx_worker.h"

namespace forecache::ucx_internal {
namespace {

// Messages of one peer in one Progress: all that its mailbox holds.
constexpr int kDrainMax = 95;

}  // namespace

void UcxTransport::ShareMemory(UcxEndpoint* endpoint) {
  if (!use_mailboxes_ || ending_ || endpoint->closing() ||
      std::ranges::count(with_mailbox_, endpoint) > 0 ||
      with_mailbox_.size() >= kMailboxesMax ||
      endpoint->peer().host_id != address_.host_id ||
      endpoint->TransportName() != "shm") {
    return;
  }
  const absl::Status offered = endpoint->OfferMailbox();
  if (!offered.ok()) {
    LogWarning("no mailbox, so UCX's own queue carries messages of this host",
               {{"peer", endpoint->PeerName()},
                {"error", offered.ToString()}});
  }
  if (endpoint->mailbox() != nullptr) with_mailbox_.push_back(endpoint);
}

int UcxTransport::Drain(UcxEndpoint* endpoint) {
  UcxMailbox* mailbox = endpoint->mailbox();
  if (mailbox == nullptr || !mailbox->reader().formatted()) return 0;
  int count = 0;
  ByteView header, payload;
  while (count < kDrainMax && !endpoint->closing() &&
         mailbox->reader().Read(&header, &payload)) {
    FC_CHECK(handler_ != nullptr) << "a message, but no handler";
    handler_->OnMessage(endpoint, header, payload);
    mailbox->reader().Release();
    mailbox->MarkReleased();
    ++count;
  }
  return count;
}

int UcxTransport::ProgressMailboxes() {
  int events = 0;
  // By index: a handler may connect and close.
  for (size_t i = 0; i < with_mailbox_.size(); ++i) {
    UcxEndpoint* endpoint = with_mailbox_[i];
    events += endpoint->mailbox()->Flush();
    events += Drain(endpoint);
  }
  return events;
}

void UcxTransport::RingDoorbells() {
  bool fenced = false;
  for (UcxEndpoint* endpoint : with_mailbox_) {
    UcxMailbox* mailbox = endpoint->mailbox();
    if (!mailbox->Touched()) continue;
    // Between our write and the look at the peer's flag, as between its flag
    // and its look at what we wrote: one of the two sees the other.
    if (!fenced) std::atomic_thread_fence(std::memory_order_seq_cst);
    fenced = true;
    if (mailbox->TakeDoorbell()) endpoint->RingDoorbell();
  }
}

bool UcxTransport::PutMailboxesToSleep() {
  if (with_mailbox_.empty()) return true;
  for (UcxEndpoint* endpoint : with_mailbox_) {
    endpoint->mailbox()->SetSleeps(true);
  }
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return std::ranges::none_of(with_mailbox_, [](UcxEndpoint* endpoint) {
    return endpoint->mailbox()->HasWork();
  });
}

}  // namespace forecache::ucx_internal
