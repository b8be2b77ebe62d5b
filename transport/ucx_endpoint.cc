#include "transport/ucx_endpoint.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/log.h"
#include "common/status.h"
#include "transport/ucx_context.h"

namespace forecache::ucx_internal {

// --- Endpoint ---------------------------------------------------------------

UcxEndpoint::UcxEndpoint(UcxAddress peer, uint64_t local_id,
                         uint32_t connection, UcxOperations* operations,
                         std::vector<UcxEndpoint*>* failed)
    : peer_(std::move(peer)),
      local_id_(local_id),
      connection_(connection),
      operations_(operations),
      failed_(failed) {}

UcxEndpoint::~UcxEndpoint() {
  FC_CHECK(under_way_ == 0) << "operations outlive their endpoint";
  for (const auto& [key, region] : regions_) ucp_rkey_destroy(region.rkey);
}

absl::Status UcxEndpoint::Open(ucp_worker_h worker,
                               const std::string& local_address,
                               bool tcp_rendezvous,
                               ucp_err_handler_cb_t failed) {
  ucp_ep_params_t params = {};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS |
                      UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address =
      reinterpret_cast<const ucp_address_t*>(peer_.worker.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = failed;
  params.err_handler.arg = this;
  FC_RETURN_IF_ERROR(FromUcs(ucp_ep_create(worker, &params, &ep_),
                             absl::StrCat("connecting to ", PeerName())));
  if (!tcp_rendezvous && EndpointTransport(ep_) == "tcp") {
    send_flags_ = UCP_AM_SEND_FLAG_EAGER;
  }
  const ByteView address =
      std::as_bytes(std::span<const char>(local_address));
  return Start(FrameKind::kHello, {}, address, nullptr, UCP_AM_SEND_FLAG_EAGER);
}

void UcxEndpoint::MarkFailed(const absl::Status& why) {
  if (!failure_.ok() || closing_) return;
  failure_ = why;
  failed_->push_back(this);
}

absl::Status UcxEndpoint::Admit() const {
  FC_CHECK(!closing_) << "use of an endpoint that was closed";
  if (!failure_.ok()) return failure_;
  if (under_way_ >= kRequestsInFlightMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("too many sends under way to ", PeerName()));
  }
  return absl::OkStatus();
}

absl::Status UcxEndpoint::Check(ByteView header, ByteView payload) const {
  if (header.size() > kHeaderBytesMax || payload.size() > kMessageBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "message of ", header.size(), "+", payload.size(), " bytes"));
  }
  return Admit();
}

TransportOperation UcxEndpoint::Choice(size_t size) const {
  const TransportOperation preferred = preferred_[std::bit_width(size)];
  const bool has_mailbox = mailbox_ != nullptr && mailbox_->outgoing() &&
                           size <= kMailboxPayloadMax;
  if (preferred == TransportOperation::kAuto ||
      preferred == TransportOperation::kMailbox) {
    return has_mailbox ? TransportOperation::kMailbox
                       : TransportOperation::kAuto;
  }
  return preferred;
}

void UcxEndpoint::Prefer(size_t size_from, TransportOperation operation) {
  FC_CHECK(operation != TransportOperation::kPut &&
           operation != TransportOperation::kGet)
      << "Send can't take its payload by put or get";
  for (size_t i = std::bit_width(size_from); i < preferred_.size(); ++i) {
    preferred_[i] = operation;
  }
}

absl::Status UcxEndpoint::Send(ByteView header, ByteView payload, Done done) {
  FC_RETURN_IF_ERROR(Check(header, payload));
  const TransportOperation choice = Choice(payload.size());
  if (choice != TransportOperation::kAuto) {
    return SendBy(choice, header, payload, std::move(done));
  }
  return Start(FrameKind::kMessage, header, payload, std::move(done),
               send_flags_);
}

absl::Status UcxEndpoint::SendBy(TransportOperation operation, ByteView header,
                                 ByteView payload, Done done) {
  FC_RETURN_IF_ERROR(Check(header, payload));
  switch (operation) {
    case TransportOperation::kAuto:
      return Send(header, payload, std::move(done));
    case TransportOperation::kMailbox:
      if (mailbox_ == nullptr || !mailbox_->outgoing() ||
          payload.size() > kMailboxPayloadMax) {
        return absl::UnimplementedError(
            absl::StrCat("no mailbox of ", PeerName(), " for ", payload.size(),
                         " bytes"));
      }
      return SendByMailbox(header, payload, std::move(done));
    case TransportOperation::kEager:
      return Start(FrameKind::kMessage, header, payload, std::move(done),
                   UCP_AM_SEND_FLAG_EAGER);
    case TransportOperation::kRendezvous:
      return Start(FrameKind::kMessage, header, payload, std::move(done),
                   UCP_AM_SEND_FLAG_RNDV);
    default:
      return absl::UnimplementedError("put and get are calls of their own");
  }
}

absl::Status UcxEndpoint::SendByMailbox(ByteView header, ByteView payload,
                                        Done done) {
  if (mailbox_->Write(header, payload)) {
    if (mailbox_->TakeDoorbellEarly()) RingDoorbell();
    if (done) {
      UcxOperation* operation = operations_->Start(this, std::move(done));
      operations_->End(operation, UCS_OK);
    }
    return absl::OkStatus();
  }
  UcxOperation* operation = operations_->Start(this, std::move(done));
  Fill(operation, FrameKind::kMessage, header);
  operation->payload = payload;
  mailbox_->Enqueue(operation);
  return absl::OkStatus();
}

MutableBytes UcxEndpoint::Reserve(size_t payload_bytes) {
  FC_CHECK(payload_bytes > 0);
  if (!Admit().ok() || payload_bytes > kMailboxPayloadMax ||
      Choice(payload_bytes) != TransportOperation::kMailbox) {
    return {};
  }
  return mailbox_->Reserve(payload_bytes);
}

void UcxEndpoint::Commit(ByteView header, size_t payload_bytes) {
  FC_CHECK(header.size() <= kHeaderBytesMax) << header.size();
  FC_CHECK(mailbox_ != nullptr) << "nothing is reserved";
  mailbox_->Commit(header, payload_bytes);
  if (mailbox_->TakeDoorbellEarly()) RingDoorbell();
}

void UcxEndpoint::Fill(UcxOperation* operation, FrameKind kind,
                       ByteView header) const {
  Frame frame;
  frame.kind = kind;
  frame.sender = local_id_;
  frame.connection = connection_;
  frame.answers = peer_connection;
  std::memcpy(operation->header.data(), &frame, sizeof(frame));
  if (!header.empty()) {
    std::memcpy(operation->header.data() + sizeof(frame), header.data(),
                header.size());
  }
  operation->header_bytes = header.size();
}

absl::Status UcxEndpoint::Start(FrameKind kind, ByteView header,
                                ByteView payload, Done done, uint32_t flags) {
  UcxOperation* operation = operations_->Start(this, std::move(done));
  Fill(operation, kind, header);
  ucp_request_param_t param = {};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK |
                       UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = flags;
  param.cb.send = &UcxEndpoint::OnSent;
  param.user_data = operation;
  ucs_status_ptr_t request = ucp_am_send_nbx(
      ep_, /*id=*/0, operation->header.data(), sizeof(Frame) + header.size(),
      payload.data(), payload.size(), &param);
  if (request == nullptr) {
    operations_->End(operation, UCS_OK);
  } else if (UCS_PTR_IS_ERR(request)) {
    operations_->Abandon(operation);
    return FromUcs(UCS_PTR_STATUS(request),
                   absl::StrCat("sending to ", PeerName()));
  }
  return absl::OkStatus();
}

void UcxEndpoint::OnSent(void* request, ucs_status_t status, void* operation) {
  ucp_request_free(request);
  auto* ended = static_cast<UcxOperation*>(operation);
  ended->endpoint->operations_->End(ended, status);
}

absl::StatusOr<const UcxEndpoint::RemoteRegion*> UcxEndpoint::Region(
    const std::string& remote_key) {
  auto found = regions_.find(remote_key);
  if (found != regions_.end()) return &found->second;
  FC_ASSIGN_OR_RETURN(UcxRemoteKey key, UcxRemoteKey::Parse(remote_key));
  if (regions_.size() >= kRemoteRegionsMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("too many regions of ", PeerName()));
  }
  RemoteRegion region = {nullptr, key.base, key.size};
  FC_RETURN_IF_ERROR(
      FromUcs(ucp_ep_rkey_unpack(ep_, key.rkey.data(), &region.rkey),
              absl::StrCat("remote key of ", PeerName())));
  return &regions_.emplace(remote_key, region).first->second;
}

absl::StatusOr<const UcxEndpoint::RemoteRegion*> UcxEndpoint::Range(
    const std::string& remote_key, uint64_t offset, size_t size) {
  FC_ASSIGN_OR_RETURN(const RemoteRegion* region, Region(remote_key));
  if (offset > region->size || size > region->size - offset) {
    return absl::OutOfRangeError(
        absl::StrCat("offset ", offset, "+", size, " passes the end of a region"
                     " of ", region->size, " bytes"));
  }
  return region;
}

absl::Status UcxEndpoint::Get(MutableBytes target,
                              const std::string& remote_key, uint64_t offset,
                              Done done) {
  return Reach(TransportOperation::kGet, target, remote_key, offset,
               std::move(done));
}

absl::Status UcxEndpoint::Put(ByteView source, const std::string& remote_key,
                              uint64_t offset, Done done) {
  const MutableBytes unchanged(const_cast<std::byte*>(source.data()),
                               source.size());
  return Reach(TransportOperation::kPut, unchanged, remote_key, offset,
               std::move(done));
}

absl::Status UcxEndpoint::Reach(TransportOperation operation,
                                MutableBytes local,
                                const std::string& remote_key, uint64_t offset,
                                Done done) {
  const bool put = operation == TransportOperation::kPut;
  if (local.size() > kMessageBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(put ? "put" : "get", " of ", local.size(), " bytes"));
  }
  FC_RETURN_IF_ERROR(Admit());
  FC_ASSIGN_OR_RETURN(const RemoteRegion* region,
                      Range(remote_key, offset, local.size()));
  UcxOperation* started = operations_->Start(this, std::move(done));
  ucp_request_param_t param = {};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.send = put ? &UcxEndpoint::OnPut : &UcxEndpoint::OnSent;
  param.user_data = started;
  const uint64_t remote = region->base + offset;
  ucs_status_ptr_t request =
      put ? ucp_put_nbx(ep_, local.data(), local.size(), remote, region->rkey,
                        &param)
          : ucp_get_nbx(ep_, local.data(), local.size(), remote, region->rkey,
                        &param);
  if (UCS_PTR_IS_ERR(request)) {
    operations_->Abandon(started);
    return FromUcs(UCS_PTR_STATUS(request),
                   absl::StrCat(put ? "writing to " : "reading from ",
                                PeerName()));
  }
  if (request != nullptr) return absl::OkStatus();
  if (put) {
    StartFlush(started);
  } else {
    operations_->End(started, UCS_OK);
  }
  return absl::OkStatus();
}

// The source is free; whether the peer's memory has the bytes, a flush tells.
void UcxEndpoint::OnPut(void* request, ucs_status_t status, void* operation) {
  ucp_request_free(request);
  auto* put = static_cast<UcxOperation*>(operation);
  UcxEndpoint* endpoint = put->endpoint;
  if (status != UCS_OK || !endpoint->failure_.ok() || endpoint->closing_) {
    endpoint->operations_->End(put, status == UCS_OK ? UCS_ERR_CANCELED
                                                     : status);
    return;
  }
  StartFlush(put);
}

void UcxEndpoint::StartFlush(UcxOperation* operation) {
  UcxEndpoint* endpoint = operation->endpoint;
  ucp_request_param_t param = {};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.send = &UcxEndpoint::OnSent;
  param.user_data = operation;
  ucs_status_ptr_t request = ucp_ep_flush_nbx(endpoint->ep_, &param);
  if (!UCS_PTR_IS_PTR(request)) {
    endpoint->operations_->End(operation, UCS_PTR_STATUS(request));
  }
}

std::string UcxEndpoint::TransportName() const {
  if (ep_ == nullptr) return "unknown";
  if (!transport_name_.empty()) return transport_name_;
  std::string name = EndpointTransport(ep_);
  // Until the peer has answered, the lanes may still change.
  if (peer_connection != 0) transport_name_ = name;
  return name;
}

void UcxEndpoint::SendBye() {
  if (!failure_.ok() || ep_ == nullptr) return;
  // As good as it gets: the peer that misses it learns by its own means.
  (void)Start(FrameKind::kBye, {}, {}, nullptr, UCP_AM_SEND_FLAG_EAGER);
}

void UcxEndpoint::MarkClosing() {
  closing_ = true;
  if (mailbox_ == nullptr) return;
  mailbox_->Cancel(failure_.ok() ? UCS_ERR_CANCELED : UCS_ERR_UNREACHABLE);
}

// --- Mailboxes --------------------------------------------------------------

// The token names the connection, from its reader's side: peers know each
// other's ids and numbers.
absl::Status UcxEndpoint::OfferMailbox() {
  mailbox_ = std::make_unique<UcxMailbox>(operations_);
  FC_RETURN_IF_ERROR(mailbox_->OpenIncoming(local_id_ + connection_));
  const ByteView key =
      std::as_bytes(std::span<const char>(mailbox_->key()));
  return Start(FrameKind::kMailbox, {}, key, nullptr, UCP_AM_SEND_FLAG_EAGER);
}

void UcxEndpoint::AcceptMailbox(const std::string& key) {
  const absl::Status opened =
      mailbox_->OpenOutgoing(key, peer_.id + peer_connection);
  if (!opened.ok()) {
    LogWarning("no mailbox, so UCX's own queue carries messages of this host",
               {{"peer", PeerName()}, {"error", opened.ToString()}});
  }
}

void UcxEndpoint::RingDoorbell() {
  if (!failure_.ok() || closing_) return;
  (void)Start(FrameKind::kDoorbell, {}, {}, nullptr, UCP_AM_SEND_FLAG_EAGER);
}

// --- The end ----------------------------------------------------------------

void UcxEndpoint::StartClose() {
  close_started_ = Clock::Real()->Now();
  if (ep_ == nullptr) return;
  ucp_request_param_t param = {};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  ucs_status_ptr_t request = ucp_ep_close_nbx(ep_, &param);
  ep_ = nullptr;
  if (UCS_PTR_IS_PTR(request)) {
    close_request_ = request;
  } else if (UCS_PTR_IS_ERR(request)) {
    LogWarning("closing an endpoint failed",
               {{"peer", PeerName()},
                {"error", ucs_status_string(UCS_PTR_STATUS(request))}});
  }
}

bool UcxEndpoint::Buried() {
  if (close_request_ != nullptr) {
    if (ucp_request_check_status(close_request_) == UCS_INPROGRESS) {
      return false;
    }
    ucp_request_free(close_request_);
    close_request_ = nullptr;
  }
  return ep_ == nullptr && under_way_ == 0;
}

}  // namespace forecache::ucx_internal
