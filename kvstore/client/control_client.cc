#include "kvstore/client/control_client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status.h"
#include "kvstore/wire.h"
#include "proto/store.grpc.pb.h"

namespace forecache {
namespace {

constexpr uint32_t kLayoutVersion = 1;

std::chrono::system_clock::time_point DeadlineIn(Nanos timeout) {
  return std::chrono::system_clock::now() + std::chrono::nanoseconds(timeout);
}

void Fill(const ModelFingerprint& model, v1::ModelIdentity* out) {
  out->set_weights_digest(model.weights_digest);
  out->set_architecture(model.architecture);
  out->set_layers(model.geometry.layers);
  out->set_kv_heads(model.geometry.kv_heads);
  out->set_head_dim(model.geometry.head_dim);
  out->set_group(model.geometry.group);
  out->set_kv_type(static_cast<uint32_t>(model.geometry.type));
  out->set_rope_base(model.rope_base);
  out->set_layout_version(kLayoutVersion);
}

v1::OpenSessionRequest OpenRequest(const ModelFingerprint& model,
                                   std::span<const int32_t> prompt_tokens,
                                   const std::string& request_id,
                                   const SharedPrefix& shared) {
  v1::OpenSessionRequest request;
  Fill(model, request.mutable_model());
  request.mutable_prompt_tokens()->Assign(prompt_tokens.begin(),
                                          prompt_tokens.end());
  request.set_request_id(request_id);
  request.set_domain(shared.domain);
  request.set_domain_tokens(static_cast<uint32_t>(shared.tokens));
  return request;
}

}  // namespace

struct ControlClient::Impl {
  std::string address;
  std::string token;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::KvStore::Stub> stub;

  // Runs one call with the deadline; says whom it was for when it fails.
  template <typename Request, typename Reply, typename Method>
  absl::Status Call(Method method, const Request& request, Reply* reply) {
    grpc::ClientContext context;
    context.set_deadline(DeadlineIn(kRpcTimeout));
    if (!token.empty()) {
      context.AddMetadata("authorization", absl::StrCat("Bearer ", token));
    }
    grpc::Status status = (stub.get()->*method)(&context, request, reply);
    if (status.ok()) return absl::OkStatus();
    return absl::Status(
        static_cast<absl::StatusCode>(status.error_code()),
        absl::StrCat("store ", address, ": ", status.error_message()));
  }

  absl::StatusOr<OpenedSession> Open(const v1::OpenSessionRequest& request,
                                     const KvGeometry& geometry) {
    v1::OpenSessionReply reply;
    FC_RETURN_IF_ERROR(Call(&v1::KvStore::Stub::OpenSession, request, &reply));
    OpenedSession opened;
    if (reply.session_key().size() != sizeof(opened.handle.key)) {
      return absl::InternalError(
          absl::StrCat("store ", address, ": session_key is not 16 bytes"));
    }
    opened.handle.id = reply.session_id();
    std::memcpy(opened.handle.key, reply.session_key().data(),
                sizeof(opened.handle.key));
    opened.handle.geometry = geometry;
    opened.cached_tokens = static_cast<int>(reply.cached_tokens());
    opened.held_segments.assign(reply.held_segments().begin(),
                                reply.held_segments().end());
    opened.resumed = reply.resumed();
    return opened;
  }
};

ControlClient::ControlClient(const std::string& address,
                             const StoreCredentials& credentials)
    : impl_(std::make_unique<Impl>()) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kGrpcMessageBytesMax);
  arguments.SetMaxSendMessageSize(kGrpcMessageBytesMax);
  // A store on this host must not be asked for through a proxy.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // gRPC's own pause between tries grows to two minutes: longer than a store
  // that came back may go unnoticed.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS,
                   kReconnectFirst / kMillisecond);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS,
                   kReconnectFirst / kMillisecond);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                   kReconnectMost / kMillisecond);
  impl_->address = address;
  impl_->token = credentials.token;
  impl_->channel = grpc::CreateCustomChannel(
      address,
      credentials.channel != nullptr ? credentials.channel
                                     : grpc::InsecureChannelCredentials(),
      arguments);
  impl_->stub = v1::KvStore::NewStub(impl_->channel);
}

ControlClient::~ControlClient() = default;

absl::StatusOr<StoreAddress> ControlClient::Attach(
    const std::string& worker_name) {
  v1::AttachRequest request;
  v1::AttachReply reply;
  request.set_wire_version(wire::kVersion);
  request.set_worker_name(worker_name);
  FC_RETURN_IF_ERROR(impl_->Call(&v1::KvStore::Stub::Attach, request, &reply));
  if (reply.wire_version() != wire::kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("store ", impl_->address, ": wire_version is ",
                     reply.wire_version(), ", this side's is ",
                     wire::kVersion));
  }
  StoreAddress store{reply.store_id(), reply.data_plane_address(),
                     reply.epoch()};
  if (reply.hello_key().size() != store.grant.key.size()) {
    return absl::InternalError(
        absl::StrCat("store ", impl_->address, ": hello_key is not ",
                     store.grant.key.size(), " bytes"));
  }
  store.durable = reply.durable();
  store.grant.id = reply.hello_grant();
  std::memcpy(store.grant.key.data(), reply.hello_key().data(),
              store.grant.key.size());
  return store;
}

absl::StatusOr<OpenedSession> ControlClient::OpenSession(
    const ModelFingerprint& model, std::span<const int32_t> prompt_tokens,
    const std::string& request_id, const SharedPrefix& shared) {
  return impl_->Open(OpenRequest(model, prompt_tokens, request_id, shared),
                     model.geometry);
}

absl::StatusOr<OpenedSession> ControlClient::OpenScattered(
    const ModelFingerprint& model, std::span<const int32_t> prompt_tokens,
    const std::string& request_id, const SessionHandle& before,
    const SharedPrefix& shared) {
  v1::OpenSessionRequest request =
      OpenRequest(model, prompt_tokens, request_id, shared);
  request.set_scattered(true);
  if (before.id != 0) {
    request.set_resume_session_id(before.id);
    request.set_resume_session_key(before.key, sizeof(before.key));
  }
  return impl_->Open(request, model.geometry);
}

const std::string& ControlClient::address() const { return impl_->address; }

absl::Status ControlClient::CloseSession(const SessionHandle& session) {
  v1::CloseSessionRequest request;
  v1::CloseSessionReply reply;
  request.set_session_id(session.id);
  return impl_->Call(&v1::KvStore::Stub::CloseSession, request, &reply);
}

absl::StatusOr<int> ControlClient::LookupPrefix(
    const ModelFingerprint& model, std::span<const int32_t> prompt_tokens) {
  v1::LookupPrefixRequest request;
  v1::LookupPrefixReply reply;
  Fill(model, request.mutable_model());
  request.mutable_prompt_tokens()->Assign(prompt_tokens.begin(),
                                          prompt_tokens.end());
  FC_RETURN_IF_ERROR(
      impl_->Call(&v1::KvStore::Stub::LookupPrefix, request, &reply));
  return static_cast<int>(reply.cached_tokens());
}

namespace {

v1::SealSegmentRequest SealRequest(const SessionHandle& session, int segment,
                                   std::span<const int32_t> tokens) {
  v1::SealSegmentRequest request;
  request.set_session_id(session.id);
  request.set_segment(static_cast<uint32_t>(segment));
  request.mutable_tokens()->Assign(tokens.begin(), tokens.end());
  return request;
}

}  // namespace

absl::Status ControlClient::SealSegment(const SessionHandle& session,
                                        int segment,
                                        std::span<const int32_t> tokens) {
  v1::SealSegmentReply reply;
  return impl_->Call(&v1::KvStore::Stub::SealSegment,
                     SealRequest(session, segment, tokens), &reply);
}

absl::StatusOr<bool> ControlClient::SealDurably(
    const SessionHandle& session, int segment,
    std::span<const int32_t> tokens) {
  v1::SealSegmentRequest request = SealRequest(session, segment, tokens);
  request.set_wait_durable(true);
  v1::SealSegmentReply reply;
  FC_RETURN_IF_ERROR(
      impl_->Call(&v1::KvStore::Stub::SealSegment, request, &reply));
  return reply.durable();
}

absl::StatusOr<StoreStats> ControlClient::Stats() {
  v1::StatsReply reply;
  FC_RETURN_IF_ERROR(
      impl_->Call(&v1::KvStore::Stub::Stats, v1::StatsRequest(), &reply));
  StoreStats stats;
  stats.store_id = reply.store_id();
  stats.sessions = reply.sessions();
  stats.segments = reply.segments();
  stats.open_segments = reply.open_segments();
  stats.dram_bytes = reply.dram_bytes();
  stats.dram_capacity_bytes = reply.dram_capacity_bytes();
  stats.dram_segments = reply.dram_segments();
  stats.ssd_segments = reply.ssd_segments();
  stats.ssd_bytes = reply.ssd_bytes();
  stats.ssd_queued_segments = reply.ssd_queued_segments();
  stats.prefix_tokens_hit_ssd = reply.prefix_tokens_hit_ssd();
  stats.blocks_put = reply.blocks_put();
  stats.blocks_pushed = reply.blocks_pushed();
  stats.bytes_pushed = reply.bytes_pushed();
  stats.probes = reply.probes();
  stats.probe_key_bytes = reply.probe_key_bytes();
  stats.blocks_refused = reply.blocks_refused();
  stats.segments_evicted = reply.segments_evicted();
  stats.segments_dropped = reply.segments_dropped();
  stats.prefix_lookups = reply.prefix_lookups();
  stats.prefix_tokens_asked = reply.prefix_tokens_asked();
  stats.prefix_tokens_hit = reply.prefix_tokens_hit();
  stats.transport = reply.transport();
  stats.isa = reply.isa();
  return stats;
}

absl::Status ControlClient::WaitReady(int timeout_ms) {
  if (impl_->channel->WaitForConnected(
          DeadlineIn(timeout_ms * kMillisecond))) {
    return absl::OkStatus();
  }
  return absl::UnavailableError(absl::StrCat(
      "store ", impl_->address, ": nobody answers within ", timeout_ms,
      " ms"));
}

}  // namespace forecache
