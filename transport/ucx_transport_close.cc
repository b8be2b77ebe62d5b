// How a UcxTransport lets go: of an endpoint, and of all.

#include <unistd.h>

#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "transport/ucx_worker.h"

namespace forecache::ucx_internal {
namespace {

constexpr Nanos kEndTimeout = 2 * kSecond;
// Longer than a round trip to any peer that runs.
constexpr Nanos kFlushTimeout = 100 * kMillisecond;

}  // namespace

UcxTransport::~UcxTransport() {
  FC_CHECK(!in_progress_) << "destroyed inside its own Progress";
  ending_ = true;
  if (receiver_ != nullptr) receiver_->DropWaiting();
  while (!endpoints_.empty()) {
    UcxEndpoint* endpoint = endpoints_.begin()->second.get();
    endpoint->SendBye();
    Retire(endpoint);
  }
  while (!replaced_.empty()) Retire(replaced_.back().get());
  const Nanos deadline = Clock::Real()->Now() + kEndTimeout;
  while (worker_ != nullptr && Clock::Real()->Now() < deadline) {
    ucp_worker_progress(worker_);
    operations_.RunDones();
    Sweep();
    if (retired_.empty() && receiver_->under_way() == 0) break;
  }
  if (!retired_.empty()) {
    LogWarning("ucx did not close in time", {{"endpoints", retired_.size()}});
  }
  const bool still = worker_ == nullptr || Flush();
  if (!still) LogWarning("ucx still connects to a peer: worker left to leak");
  if (worker_ != nullptr && still) ucp_worker_destroy(worker_);
  operations_.CancelAll();
  retired_.clear();
  if (context_ != nullptr && still) ucp_cleanup(context_);
  if (wake_fd_ >= 0) close(wake_fd_);
}

// UCX connects by itself to a peer that asks for it, before any hello. UCX
// 1.13.1 ends the process when its worker goes while that is under way.
bool UcxTransport::Flush() {
  const Nanos deadline = Clock::Real()->Now() + kFlushTimeout;
  do {
    ucp_request_param_t param = {};
    ucs_status_ptr_t request = ucp_worker_flush_nbx(worker_, &param);
    while (UCS_PTR_IS_PTR(request) &&
           ucp_request_check_status(request) == UCS_INPROGRESS) {
      if (Clock::Real()->Now() >= deadline) return false;
      ucp_worker_progress(worker_);
    }
    if (UCS_PTR_IS_PTR(request)) ucp_request_free(request);
    // Nothing that happened after the flush may have begun another one.
    if (ucp_worker_progress(worker_) == 0) return true;
  } while (Clock::Real()->Now() < deadline);
  return false;
}

void UcxTransport::Close(Endpoint* endpoint) {
  auto* ours = static_cast<UcxEndpoint*>(endpoint);
  FC_CHECK(!ours->closing()) << "endpoint closed twice";
  ours->SendBye();
  Retire(ours);
}

void UcxTransport::Retire(UcxEndpoint* endpoint) {
  endpoint->MarkClosing();
  std::erase(failed_, endpoint);
  std::erase(with_mailbox_, endpoint);
  auto found = endpoints_.find(endpoint->peer().id);
  if (found != endpoints_.end() && found->second.get() == endpoint) {
    retired_.push_back(std::move(found->second));
    endpoints_.erase(found);
    return;
  }
  for (auto& replaced : replaced_) {
    if (replaced.get() != endpoint) continue;
    retired_.push_back(std::move(replaced));
    std::swap(replaced, replaced_.back());
    replaced_.pop_back();
    return;
  }
  FC_CHECK(false) << "not an endpoint of this transport";
}

int UcxTransport::Sweep() {
  int events = 0;
  for (; closes_started_ < retired_.size(); ++closes_started_, ++events) {
    retired_[closes_started_]->StartClose();
  }
  if (retired_.empty()) return events;
  std::erase_if(retired_, [](const auto& endpoint) {
    return endpoint->Buried();
  });
  closes_started_ = retired_.size();
  const Nanos now = Clock::Real()->Now();
  for (auto& endpoint : retired_) {
    if (endpoint->orphaned || now < endpoint->close_started() + kCloseTimeout) {
      continue;
    }
    LogWarning("ucx does not end what was under way to a closed peer",
               {{"peer", endpoint->PeerName()}});
    endpoint->orphaned = true;
    operations_.Orphan(endpoint.get(),
                       endpoint->failure().ok()
                           ? absl::CancelledError("endpoint closed")
                           : endpoint->failure());
    ++events;
  }
  return events;
}

}  // namespace forecache::ucx_internal
