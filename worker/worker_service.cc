#include "worker/worker_service.h"

#include <utility>

#include "common/log.h"
#include "common/status.h"

namespace forecache {
namespace {

// absl's codes are gRPC's.
grpc::Status ToGrpc(const absl::Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()),
                      std::string(status.message()));
}

}  // namespace

WorkerService::WorkerService(const WorkerParts& parts, std::string store_id,
                             Generator* generator, RequestQueue* queue,
                             WorkerMetrics* metrics)
    : parts_(parts),
      store_id_(std::move(store_id)),
      generator_(generator),
      queue_(queue),
      metrics_(metrics) {
  metrics_->SetArena(0, parts.arena->slots() * parts.arena->slot_bytes());
}

grpc::Status WorkerService::Generate(
    grpc::ServerContext* context, const v1::GenerateRequest* request,
    grpc::ServerWriter<v1::GenerateEvent>* writer) {
  metrics_->SetWaiting(queue_->waiting() + 1);
  const absl::Status status =
      queue_->Run([&] { return Answer(context, *request, writer); });
  metrics_->SetWaiting(queue_->waiting());
  metrics_->CountEnd(status, request->mode());
  if (!status.ok()) {
    LogWarning("request failed", {{"request", request->request_id()},
                                  {"error", status.ToString()}});
  }
  return ToGrpc(status);
}

absl::Status WorkerService::Answer(
    grpc::ServerContext* context, const v1::GenerateRequest& request,
    grpc::ServerWriter<v1::GenerateEvent>* writer) {
  if (context->IsCancelled()) {
    return absl::CancelledError("the client went away while it waited");
  }
  v1::Summary summary;
  const size_t arena_bytes = parts_.arena->slots() * parts_.arena->slot_bytes();
  const absl::Status status =
      generator_->Run(request, [&](const v1::GenerateEvent& event) {
        metrics_->SetArena(
            parts_.arena->slots_in_use() * parts_.arena->slot_bytes(),
            arena_bytes);
        if (event.has_summary()) summary = event.summary();
        return !context->IsCancelled() && writer->Write(event);
      });
  metrics_->SetArena(parts_.arena->slots_in_use() * parts_.arena->slot_bytes(),
                     arena_bytes);
  metrics_->SetStores(parts_.data_plane->GroupCounters(),
                      parts_.control->counters());
  metrics_->SetAnswers(parts_.data_plane->Counters());
  if (!status.ok()) return status;
  LogInfo("request", {{"request", request.request_id()},
                      {"mode", v1::Mode_Name(request.mode())},
                      {"prompt", summary.prompt_tokens()},
                      {"cached", summary.cached_tokens()},
                      {"decoded", summary.decoded_tokens()},
                      {"budget_blocks", summary.budget_blocks()},
                      {"predicted", summary.predicted()},
                      {"in_time", summary.in_time()},
                      {"late", summary.late()},
                      {"missed", summary.missed()},
                      {"first_token_s", summary.first_token_seconds()},
                      {"decode_s", summary.decode_seconds()}});
  return status;
}

grpc::Status WorkerService::Describe(grpc::ServerContext* /*context*/,
                                     const v1::DescribeRequest* /*request*/,
                                     v1::DescribeReply* reply) {
  const ModelConfig& config = parts_.model->config();
  reply->set_model(config.name);
  reply->set_architecture(config.architecture);
  reply->set_layers(config.layers);
  reply->set_kv_heads(config.kv_heads);
  reply->set_query_heads(config.query_heads);
  reply->set_head_dim(config.head_dim);
  reply->set_context_tokens(config.context_tokens);
  reply->set_arena_bytes(parts_.arena->slots() * parts_.arena->slot_bytes());
  reply->set_arena_bytes_in_use(parts_.arena->slots_in_use() *
                                parts_.arena->slot_bytes());
  reply->set_transport(parts_.data_plane->transport_name());
  reply->set_isa(KernelIsa());
  reply->set_store_id(store_id_);
  reply->set_waiting_requests(queue_->waiting());
  const DataClientCounters counters = parts_.data_plane->Counters();
  reply->set_blocks_put(counters.blocks_put);
  reply->set_blocks_received(counters.blocks_received);
  reply->set_bytes_received(counters.bytes_received);
  reply->set_probes(counters.probes);
  return grpc::Status::OK;
}

}  // namespace forecache
