#include "kvstore/store_service.h"

#include <cmath>
#include <cstring>
#include <span>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/status.h"
#include "kernels/block_scores.h"
#include "kvstore/secret.h"
#include "kvstore/wire.h"

namespace forecache {
namespace {

constexpr uint32_t kLayoutVersion = 1;

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  // The two enums have the same numbers.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message()));
}

absl::Status CheckName(const char* field, const std::string& name) {
  if (name.size() <= kNameBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      field, " has ", name.size(), " bytes, at most ", kNameBytesMax));
}

absl::StatusOr<ModelIdentityFields> ModelOf(const v1::ModelIdentity& model) {
  if (model.layout_version() != kLayoutVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("model: layout_version is ", model.layout_version(),
                     ", this store's is ", kLayoutVersion));
  }
  FC_RETURN_IF_ERROR(CheckName("model: weights_digest",
                               model.weights_digest()));
  FC_RETURN_IF_ERROR(CheckName("model: architecture", model.architecture()));
  if (model.weights_digest().empty()) {
    return absl::InvalidArgumentError("model: weights_digest is empty");
  }
  if (!std::isfinite(model.rope_base())) {
    return absl::InvalidArgumentError("model: rope_base is not finite");
  }
  // Larger numbers than the limits must not wrap into them.
  auto clamp = [](uint32_t value) {
    return static_cast<int>(std::min<uint32_t>(value, 1 << 20));
  };
  ModelIdentityFields fields;
  fields.weights_digest = model.weights_digest();
  fields.architecture = model.architecture();
  fields.geometry.layers = clamp(model.layers());
  fields.geometry.kv_heads = clamp(model.kv_heads());
  fields.geometry.head_dim = clamp(model.head_dim());
  fields.geometry.group = clamp(model.group());
  fields.geometry.type =
      static_cast<KvType>(std::min<uint32_t>(model.kv_type(), 255));
  fields.rope_base = model.rope_base();
  fields.layout_version = model.layout_version();
  return fields;
}

// What the caller showed.
Credential CredentialOf(const grpc::ServerContext& context) {
  constexpr std::string_view kBearer = "Bearer ";
  Credential shown;
  const auto& metadata = context.client_metadata();
  const auto token = metadata.find("authorization");
  if (token != metadata.end()) {
    const std::string_view value(token->second.data(), token->second.size());
    // Another scheme's is a token that nobody has.
    shown.token = value.starts_with(kBearer) ? value.substr(kBearer.size())
                                             : value;
    if (shown.token.empty()) shown.token = value;
  }
  const auto auth = context.auth_context();
  if (auth->IsPeerAuthenticated()) {
    const auto names = auth->FindPropertyValues("x509_common_name");
    if (!names.empty()) {
      shown.certificate_name.assign(names[0].data(), names[0].size());
    }
  }
  return shown;
}

// OK for who showed the admin's token.
absl::Status CheckAdmin(const grpc::ServerContext* context,
                        const StoreServiceOptions& options, StoreCore* store) {
  if (options.admin_token.empty() && options.anonymous) return absl::OkStatus();
  const std::string shown = CredentialOf(*context).token;
  if (!options.admin_token.empty() &&
      SameSecret(std::as_bytes(std::span(shown)),
                 std::as_bytes(std::span(options.admin_token)))) {
    return absl::OkStatus();
  }
  store->metrics().refused_calls->Add();
  LogWarning("admin's call refused", {{"peer", context->peer()}});
  return absl::UnauthenticatedError(
      "credentials: not the token of --admin-token-file");
}

std::span<const uint32_t> TokensOf(
    const google::protobuf::RepeatedField<uint32_t>& tokens) {
  return {tokens.data(), static_cast<size_t>(tokens.size())};
}

}  // namespace

StoreService::StoreService(StoreCore* store, DataPlane* data_plane,
                           const StoreServiceOptions& options)
    : store_(store),
      data_plane_(data_plane),
      options_(options),
      started_(store->clock()->Now()) {}

absl::StatusOr<TenantRef> StoreService::Caller(
    const grpc::ServerContext& context) const {
  auto tenant =
      store_->tenants().Identify(CredentialOf(context), options_.anonymous);
  if (!tenant.ok()) {
    store_->metrics().refused_calls->Add();
    LogWarning("call refused", {{"peer", context.peer()},
                                {"why", tenant.status().message()}});
  }
  return tenant;
}

grpc::Status StoreService::Attach(grpc::ServerContext* context,
                                  const v1::AttachRequest* request,
                                  v1::AttachReply* reply) {
  auto caller = Caller(*context);
  if (!caller.ok()) return ToGrpc(caller.status());
  absl::Status status = CheckName("worker_name", request->worker_name());
  if (!status.ok()) return ToGrpc(status);
  if (request->wire_version() != wire::kVersion) {
    return ToGrpc(absl::FailedPreconditionError(
        absl::StrCat("wire_version is ", request->wire_version(),
                     ", this store's is ", wire::kVersion)));
  }
  LogInfo("worker attached", {{"worker", request->worker_name()},
                              {"tenant", (*caller)->name},
                              {"peer", context->peer()}});
  auto grant = data_plane_->Invite((*caller)->id);
  if (!grant.ok()) return ToGrpc(grant.status());
  reply->set_hello_grant(grant->id);
  reply->set_hello_key(grant->key.data(), grant->key.size());
  reply->set_durable(store_->Occupancy().ssd_writable);
  reply->set_hello_within_ms(kHelloGrantTimeout / kMillisecond);
  reply->set_wire_version(wire::kVersion);
  reply->set_epoch(data_plane_->epoch());
  reply->set_data_plane_address(data_plane_->Address());
  reply->set_store_id(options_.store_id);
  return grpc::Status::OK;
}

uint32_t StoreService::LeaseMs() const {
  return static_cast<uint32_t>(store_->session_idle_timeout() / kMillisecond);
}

// Whether the session that a worker had before is still there, and its own.
bool StoreService::Resumed(const v1::OpenSessionRequest& request,
                           TenantId caller, v1::OpenSessionReply* reply) {
  uint64_t key[2];
  if (request.resume_session_id() == 0 ||
      request.resume_session_key().size() != sizeof(key)) {
    return false;
  }
  std::memcpy(key, request.resume_session_key().data(), sizeof(key));
  auto session =
      store_->Authorize(request.resume_session_id(), key, caller);
  if (!session.ok()) return false;
  const std::vector<uint32_t> held = session->SealedSegments();
  reply->set_session_id(session->session_id);
  reply->set_session_key(request.resume_session_key());
  reply->mutable_held_segments()->Assign(held.begin(), held.end());
  reply->set_lease_ms(LeaseMs());
  reply->set_resumed(true);
  LogInfo("session resumed", {{"session", session->session_id}});
  return true;
}

grpc::Status StoreService::OpenSession(grpc::ServerContext* context,
                                       const v1::OpenSessionRequest* request,
                                       v1::OpenSessionReply* reply) {
  auto caller = Caller(*context);
  if (!caller.ok()) return ToGrpc(caller.status());
  absl::Status status = CheckName("request_id", request->request_id());
  if (!status.ok()) return ToGrpc(status);
  auto model = ModelOf(request->model());
  if (!model.ok()) return ToGrpc(model.status());
  if (Resumed(*request, (*caller)->id, reply)) return grpc::Status::OK;
  auto opened = store_->OpenSession(
      *model, TokensOf(request->prompt_tokens()), request->request_id(),
      {.pins = request->scattered() ? PrefixPins::kAll : PrefixPins::kLeading,
       .tenant = (*caller)->id,
       .domain = request->domain(),
       .domain_tokens = request->domain_tokens()});
  if (!opened.ok()) return ToGrpc(opened.status());
  reply->set_session_id(opened->id);
  reply->set_session_key(opened->key, sizeof(opened->key));
  reply->set_cached_tokens(static_cast<uint32_t>(opened->cached_tokens));
  reply->mutable_held_segments()->Assign(opened->held_segments.begin(),
                                         opened->held_segments.end());
  reply->set_lease_ms(LeaseMs());
  LogInfo("session opened", {{"session", opened->id},
                             {"tenant", (*caller)->name},
                             {"request", request->request_id()},
                             {"prompt_tokens", request->prompt_tokens_size()},
                             {"cached_tokens", opened->cached_tokens}});
  return grpc::Status::OK;
}

grpc::Status StoreService::CloseSession(grpc::ServerContext* context,
                                        const v1::CloseSessionRequest* request,
                                        v1::CloseSessionReply* reply) {
  auto caller = Caller(*context);
  if (!caller.ok()) return ToGrpc(caller.status());
  store_->CloseSession(request->session_id(), (*caller)->id);
  LogInfo("session closed", {{"session", request->session_id()},
                             {"tenant", (*caller)->name}});
  return grpc::Status::OK;
}

grpc::Status StoreService::LookupPrefix(grpc::ServerContext* context,
                                        const v1::LookupPrefixRequest* request,
                                        v1::LookupPrefixReply* reply) {
  auto caller = Caller(*context);
  if (!caller.ok()) return ToGrpc(caller.status());
  auto model = ModelOf(request->model());
  if (!model.ok()) return ToGrpc(model.status());
  auto cached =
      store_->LookupPrefix(*model, TokensOf(request->prompt_tokens()),
                           (*caller)->id);
  if (!cached.ok()) return ToGrpc(cached.status());
  reply->set_cached_tokens(static_cast<uint32_t>(*cached));
  return grpc::Status::OK;
}

grpc::Status StoreService::SealSegment(grpc::ServerContext* context,
                                       const v1::SealSegmentRequest* request,
                                       v1::SealSegmentReply* reply) {
  auto caller = Caller(*context);
  if (!caller.ok()) return ToGrpc(caller.status());
  auto sealed = store_->SealSegment(request->session_id(), request->segment(),
                                    TokensOf(request->tokens()),
                                    (*caller)->id);
  if (!sealed.ok()) {
    LogWarning("seal refused", {{"session", request->session_id()},
                                {"tenant", (*caller)->name},
                                {"segment", request->segment()},
                                {"why", sealed.status().ToString()}});
    return ToGrpc(sealed.status());
  }
  if (request->wait_durable() && !sealed->durable) {
    sealed->durable = store_->AwaitDurable(sealed->id);
  }
  reply->set_durable(sealed->durable);
  reply->set_segment_id(sealed->id.bytes.data(), sealed->id.bytes.size());
  reply->set_already_held(sealed->already_held);
  return grpc::Status::OK;
}

grpc::Status StoreService::PutBlocks(grpc::ServerContext* context,
                                     const v1::PutBlocksRequest* request,
                                     v1::PutBlocksReply* reply) {
  auto caller = Caller(*context);
  if (!caller.ok()) return ToGrpc(caller.status());
  auto session = store_->Snapshot(request->session_id(), (*caller)->id);
  if (!session.ok()) return ToGrpc(session.status());
  return ToGrpc(store_->PutBlocks(
      *std::move(session), request->layer(), request->first_block(),
      request->block_count(),
      std::as_bytes(std::span(request->payload()))));
}

grpc::Status StoreService::Stats(grpc::ServerContext* context,
                                 const v1::StatsRequest* request,
                                 v1::StatsReply* reply) {
  if (!options_.anonymous) {
    absl::Status caller = CheckAdmin(context, options_, store_);
    if (!caller.ok()) return ToGrpc(caller);
  }
  const StoreOccupancy now = store_->Occupancy();
  const StoreMetrics& metrics = store_->metrics();
  auto value = [](const Counter* counter) {
    return static_cast<uint64_t>(counter->Value());
  };
  reply->set_store_id(options_.store_id);
  reply->set_sessions(now.sessions);
  reply->set_segments(now.segments);
  reply->set_open_segments(now.open_segments);
  reply->set_dram_bytes(now.dram_bytes);
  reply->set_dram_capacity_bytes(now.dram_capacity_bytes);
  reply->set_blocks_put(value(metrics.blocks_put));
  reply->set_blocks_pushed(value(metrics.blocks_pushed));
  reply->set_bytes_pushed(value(metrics.bytes_pushed));
  reply->set_probes(value(metrics.probes));
  reply->set_probe_key_bytes(value(metrics.probe_key_bytes));
  reply->set_blocks_refused(value(metrics.blocks_refused_put) +
                            value(metrics.blocks_refused_read));
  reply->set_segments_evicted(value(metrics.segments_evicted));
  reply->set_segments_dropped(value(metrics.segments_dropped));
  reply->set_prefix_lookups(value(metrics.prefix_lookups));
  reply->set_prefix_tokens_asked(value(metrics.prefix_tokens_asked));
  reply->set_prefix_tokens_hit(value(metrics.prefix_tokens_hit_dram) +
                               value(metrics.prefix_tokens_hit_ssd));
  reply->set_dram_segments(now.dram_segments);
  reply->set_ssd_segments(now.ssd_segments);
  reply->set_ssd_bytes(now.ssd_bytes);
  reply->set_ssd_metadata_bytes(now.ssd_metadata_bytes);
  reply->set_ssd_capacity_bytes(now.ssd_capacity_bytes);
  reply->set_ssd_writable(now.ssd_writable);
  reply->set_ssd_queued_segments(now.ssd_queued);
  reply->set_prefix_tokens_hit_ssd(value(metrics.prefix_tokens_hit_ssd));
  reply->set_segments_demoted(value(metrics.segments_demoted));
  reply->set_segments_promoted(value(metrics.segments_promoted));
  reply->set_ssd_segments_evicted(value(metrics.ssd_segments_evicted));
  reply->set_ssd_scrub_findings(value(metrics.scrub_findings));
  reply->set_transport(data_plane_->TransportName());
  reply->set_isa(KernelIsa());
  reply->set_uptime_seconds(
      static_cast<double>(store_->clock()->Now() - started_) / kSecond);
  return grpc::Status::OK;
}

grpc::Status StoreAdminService::Drain(grpc::ServerContext* context,
                                      const v1::DrainRequest* request,
                                      v1::DrainReply* reply) {
  absl::Status caller = CheckAdmin(context, options_, store_);
  if (!caller.ok()) return ToGrpc(caller);
  if (!options_.drain) {
    return ToGrpc(absl::UnimplementedError("this store is not a daemon"));
  }
  std::optional<Nanos> timeout;
  if (request->timeout_ms() > 0) {
    timeout = request->timeout_ms() * kMillisecond;
  }
  options_.drain(timeout);
  reply->set_sessions(store_->Occupancy().sessions);
  return grpc::Status::OK;
}

grpc::Status StoreAdminService::CorruptBlock(
    grpc::ServerContext* context, const v1::CorruptBlockRequest* request,
    v1::CorruptBlockReply* reply) {
  absl::Status caller = CheckAdmin(context, options_, store_);
  if (!caller.ok()) return ToGrpc(caller);
  if (!options_.fault_injection) {
    return ToGrpc(absl::PermissionDeniedError(
        "this store runs without --enable-fault-injection"));
  }
  uint64_t session = request->session_id();
  if (!request->request_id().empty()) {
    session = store_->FindByRequest(request->request_id());
  }
  LogWarning("fault injected", {{"session", session},
                                {"layer", request->layer()},
                                {"kv_head", request->kv_head()},
                                {"block", request->block()}});
  return ToGrpc(store_->CorruptBlock(
      session, request->layer(), request->kv_head(),
      request->block(), request->value_part(), request->bit()));
}

}  // namespace forecache
