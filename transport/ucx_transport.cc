#include "transport/ucx_transport.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/status.h"
#include "transport/ucx_context.h"
#include "transport/ucx_region.h"
#include "transport/ucx_worker.h"

namespace forecache {
namespace ucx_internal {
namespace {

constexpr int kProgressRounds = 16;  // of UCX in one Progress
// A send that waits for room in a peer's shared queue gives no event when the
// room comes: Wait then looks again this often.
// The queue of a dead peer stays full for ever, hence the back-off.
constexpr Nanos kFullQueuePause = 20 * kMicrosecond;
constexpr int kFullQueueDoublings = 6;
constexpr int kBusyWaitsMax = 3;

}  // namespace

absl::StatusOr<std::unique_ptr<Transport>> UcxTransport::Open(
    const UcxOptions& options) {
  std::unique_ptr<UcxTransport> transport(new UcxTransport);
  transport->tcp_rendezvous_ = options.tcp_rendezvous;
  transport->use_mailboxes_ = options.mailboxes;
  FC_ASSIGN_OR_RETURN(transport->context_, OpenContext(options));
  FC_RETURN_IF_ERROR(transport->OpenWorker());
  return transport;
}

absl::Status UcxTransport::OpenWorker() {
  ucp_worker_params_t params = {};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE;
  params.thread_mode = UCS_THREAD_MODE_SINGLE;
  FC_RETURN_IF_ERROR(FromUcs(ucp_worker_create(context_, &params, &worker_),
                             "opening a UCX worker"));
  FC_RETURN_IF_ERROR(FromUcs(ucp_worker_get_efd(worker_, &worker_fd_),
                             "the UCX worker's event fd"));
  wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_fd_ < 0) return absl::ErrnoToStatus(errno, "eventfd");

  ucp_am_handler_param_t handler = {};
  handler.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID |
                       UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                       UCP_AM_HANDLER_PARAM_FIELD_CB |
                       UCP_AM_HANDLER_PARAM_FIELD_ARG;
  handler.id = 0;
  handler.flags = UCP_AM_FLAG_WHOLE_MSG;
  handler.cb = &UcxTransport::OnActiveMessage;
  handler.arg = this;
  FC_RETURN_IF_ERROR(FromUcs(ucp_worker_set_am_recv_handler(worker_, &handler),
                             "the UCX message handler"));
  ucp_address_t* address = nullptr;
  size_t size = 0;
  FC_RETURN_IF_ERROR(FromUcs(ucp_worker_get_address(worker_, &address, &size),
                             "the UCX worker's address"));
  address_ = LocalAddress();
  address_.worker.assign(reinterpret_cast<const char*>(address), size);
  ucp_worker_release_address(worker_, address);
  packed_address_ = address_.Pack();
  receiver_ = std::make_unique<UcxReceiver>(
      worker_, [this](const UcxReceive& receive) {
        OnFrame(receive.frame, receive.header,
                ByteView(receive.buffer.get(), receive.size));
      });
  return absl::OkStatus();
}

// --- Endpoints --------------------------------------------------------------

absl::StatusOr<Endpoint*> UcxTransport::Connect(const std::string& address) {
  FC_ASSIGN_OR_RETURN(UcxAddress peer, UcxAddress::Parse(address));
  auto found = endpoints_.find(peer.id);
  if (found != endpoints_.end() && found->second->failure().ok()) {
    return found->second.get();
  }
  return OpenEndpoint(std::move(peer), 0);
}

absl::StatusOr<UcxEndpoint*> UcxTransport::OpenEndpoint(
    UcxAddress peer, uint32_t peer_connection) {
  if (endpoints_.size() >= kEndpointsMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("too many endpoints to add ", peer.PeerName()));
  }
  const uint64_t id = peer.id;
  auto endpoint = std::make_unique<UcxEndpoint>(
      std::move(peer), address_.id, ++last_connection_, &operations_, &failed_);
  endpoint->peer_connection = peer_connection;
  const absl::Status opened =
      endpoint->Open(worker_, packed_address_, tcp_rendezvous_,
                     &UcxTransport::OnEndpointError);
  UcxEndpoint* result = endpoint.get();
  if (!opened.ok()) {
    result->MarkClosing();
    retired_.push_back(std::move(endpoint));
    return opened;
  }
  std::unique_ptr<UcxEndpoint>& place = endpoints_[id];
  if (place != nullptr) replaced_.push_back(std::move(place));
  place = std::move(endpoint);
  return result;
}

void UcxTransport::OnEndpointError(void* endpoint, ucp_ep_h,
                                   ucs_status_t status) {
  auto* failed = static_cast<UcxEndpoint*>(endpoint);
  if (status == UCS_ERR_CANCELED) status = UCS_ERR_CONNECTION_RESET;
  failed->MarkFailed(
      FromUcs(status, absl::StrCat("peer ", failed->PeerName())));
}

int UcxTransport::ReportFailures() {
  int events = 0;
  for (; !failed_.empty(); ++events) {
    UcxEndpoint* endpoint = failed_.back();
    Drain(endpoint);  // what was written before the end is whole
    if (endpoint->closing()) continue;
    const absl::Status why = endpoint->failure();
    Retire(endpoint);
    if (handler_ != nullptr) handler_->OnDisconnect(endpoint, why);
  }
  return events;
}

// --- Arrivals ---------------------------------------------------------------

ucs_status_t UcxTransport::OnActiveMessage(void* transport, const void* header,
                                           size_t header_size, void* data,
                                           size_t size,
                                           const ucp_am_recv_param_t* param) {
  auto* self = static_cast<UcxTransport*>(transport);
  Frame frame;
  if (header_size < sizeof(frame) || size > kMessageBytesMax) return UCS_OK;
  std::memcpy(&frame, header, sizeof(frame));
  if (frame.magic != Frame::kMagic || self->ending_) return UCS_OK;
  const ByteView user_header(
      static_cast<const std::byte*>(header) + sizeof(frame),
      header_size - sizeof(frame));
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0) {
    if (frame.kind != FrameKind::kMessage) return UCS_OK;
    self->receiver_->Start(frame, user_header, data, size);
    return UCS_INPROGRESS;
  }
  self->OnFrame(frame, user_header, {static_cast<std::byte*>(data), size});
  return UCS_OK;
}

void UcxTransport::OnFrame(const Frame& frame, ByteView header,
                           ByteView payload) {
  if (ending_) return;
  if (frame.kind == FrameKind::kHello) return OnHello(frame, payload);
  UcxEndpoint* endpoint = Sender(frame);
  if (endpoint == nullptr) return;
  if (frame.kind == FrameKind::kBye) {
    endpoint->MarkFailed(absl::UnavailableError(
        absl::StrCat(endpoint->PeerName(), " closed the connection")));
  } else if (frame.kind == FrameKind::kMailbox) {
    ShareMemory(endpoint);
    if (endpoint->mailbox() == nullptr) return;
    endpoint->AcceptMailbox(std::string(
        reinterpret_cast<const char*>(payload.data()), payload.size()));
  } else if (frame.kind == FrameKind::kMessage) {
    FC_CHECK(handler_ != nullptr) << "a message, but no handler";
    handler_->OnMessage(endpoint, header, payload);
  }
}

UcxEndpoint* UcxTransport::Sender(const Frame& frame) {
  auto found = endpoints_.find(frame.sender);
  if (found == endpoints_.end()) return nullptr;
  UcxEndpoint* endpoint = found->second.get();
  return endpoint->peer_connection == frame.connection ? endpoint : nullptr;
}

void UcxTransport::OnHello(const Frame& frame, ByteView payload) {
  auto peer = UcxAddress::Parse(std::string_view(
      reinterpret_cast<const char*>(payload.data()), payload.size()));
  if (!peer.ok() || peer->id != frame.sender) {
    LogWarning("a hello that is none", {{"error", peer.status().ToString()}});
    return;
  }
  auto found = endpoints_.find(frame.sender);
  if (found != endpoints_.end()) {
    UcxEndpoint* known = found->second.get();
    // It answers a connection that we have closed meanwhile.
    if (frame.answers != 0 && frame.answers != known->connection()) return;
    if (known->peer_connection == 0) {
      known->peer_connection = frame.connection;
      ShareMemory(known);
    }
    if (known->peer_connection == frame.connection) return;
    // The peer closed and came again, and its bye was lost.
    known->MarkFailed(absl::UnavailableError(
        absl::StrCat(known->PeerName(), " connected anew")));
  } else if (frame.answers != 0) {
    return;
  }
  auto opened = OpenEndpoint(*std::move(peer), frame.connection);
  if (!opened.ok()) {
    LogWarning("a peer that can't be answered",
               {{"error", opened.status().ToString()}});
    return;
  }
  LogInfo("peer connected", {{"peer", (*opened)->PeerName()},
                             {"transport", (*opened)->TransportName()}});
  ShareMemory(*opened);
}

// --- Progress ---------------------------------------------------------------

absl::StatusOr<std::unique_ptr<MemoryRegion>> UcxTransport::Register(
    MutableBytes memory) {
  return RegisterRegion(context_, memory);
}

int UcxTransport::Progress() {
  FC_CHECK(!in_progress_) << "Progress called from a callback";
  in_progress_ = true;
  int events = Sweep();
  events += ProgressMailboxes();
  for (int round = 0; round < kProgressRounds; ++round) {
    const int more = ucp_worker_progress(worker_);
    events += more;
    if (more == 0) break;
  }
  events += receiver_->StartWaiting();
  events += operations_.RunDones();
  events += ReportFailures();
  events += Sweep();
  RingDoorbells();
  in_progress_ = false;
  if (events > 0) busy_waits_ = 0;
  return events;
}

void UcxTransport::Wait(Nanos timeout) {
  FC_CHECK(!in_progress_) << "Wait called from a callback";
  if (woken_.exchange(false) || timeout <= 0) return;
  if (operations_.HasEnded() || !failed_.empty() ||
      closes_started_ < retired_.size()) {
    return;
  }
  RingDoorbells();
  if (PutMailboxesToSleep()) Sleep(timeout);
  for (UcxEndpoint* endpoint : with_mailbox_) {
    endpoint->mailbox()->SetSleeps(false);
  }
}

void UcxTransport::Sleep(Nanos timeout) {
  // Their deadlines are Progress's business.
  if (!retired_.empty()) timeout = std::min(timeout, kCloseTimeout / 20);
  pollfd fds[] = {{wake_fd_, POLLIN, 0}, {worker_fd_, POLLIN, 0}};
  int watched = 2;
  if (ucp_worker_arm(worker_) != UCS_OK) {
    // Something is there for Progress; or Progress found nothing, again and
    // again, and a full queue is what keeps UCX from arming.
    if (++busy_waits_ < kBusyWaitsMax) return;
    const int doublings =
        std::min(busy_waits_ - kBusyWaitsMax, kFullQueueDoublings);
    timeout = std::min(timeout, kFullQueuePause << doublings);
    watched = 1;
  }
  const timespec limit = {timeout / kSecond, timeout % kSecond};
  ppoll(fds, watched, &limit, nullptr);
  uint64_t count;
  if ((fds[0].revents & POLLIN) != 0) {
    (void)!read(wake_fd_, &count, sizeof(count));
  }
  // After the read: a Wake in between leaves the eventfd readable.
  woken_.store(false);
}

void UcxTransport::Wake() {
  woken_.store(true);
  const uint64_t one = 1;
  (void)!write(wake_fd_, &one, sizeof(one));
}

}  // namespace ucx_internal

absl::StatusOr<std::unique_ptr<Transport>> OpenUcxTransport(
    const UcxOptions& options) {
  return ucx_internal::UcxTransport::Open(options);
}

}  // namespace forecache
