#include "demo/client.h"

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cmath>

#include "common/limits.h"

namespace forecache::demo {
namespace {

constexpr std::chrono::seconds kAnswerTimeout{900};

absl::Status FromGrpc(const grpc::Status& status) {
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      status.error_message());
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kGrpcMessageBytesMax);
  return grpc::CreateCustomChannel(
      address, grpc::InsecureChannelCredentials(), arguments);
}

void SetDeadline(grpc::ClientContext* context, std::chrono::seconds timeout) {
  context->set_deadline(std::chrono::system_clock::now() + timeout);
}

}  // namespace

double Answer::Perplexity() const {
  return std::exp(summary.nll_sum() / summary.nll_tokens());
}

double Answer::TokensPerSecond() const {
  return summary.decoded_tokens() < 2
             ? 0
             : (summary.decoded_tokens() - 1) / summary.decode_seconds();
}

Client::Client(const std::string& worker, const std::string& store,
               const std::string& admin)
    : worker_(v1::Worker::NewStub(Connect(worker))),
      store_(v1::KvStore::NewStub(Connect(store))),
      admin_(admin.empty() ? nullptr
                           : v1::StoreAdmin::NewStub(Connect(admin))) {}

absl::StatusOr<Answer> Client::Generate(const v1::GenerateRequest& request,
                                        const OnEvent& on_event) {
  grpc::ClientContext context;
  SetDeadline(&context, kAnswerTimeout);
  auto reader = worker_->Generate(&context, request);
  Answer answer;
  v1::GenerateEvent event;
  while (reader->Read(&event)) {
    if (event.has_token()) answer.text += event.token().text();
    if (event.has_summary()) answer.summary = event.summary();
    on_event(event);
  }
  const grpc::Status status = reader->Finish();
  if (!status.ok()) return FromGrpc(status);
  return answer;
}

absl::StatusOr<v1::StatsReply> Client::StoreStats() {
  grpc::ClientContext context;
  SetDeadline(&context, std::chrono::seconds(5));
  v1::StatsReply reply;
  const grpc::Status status = store_->Stats(&context, {}, &reply);
  if (!status.ok()) return FromGrpc(status);
  return reply;
}

absl::Status Client::CorruptBlock(const std::string& request_id, int layer,
                                  int kv_head, int block, int bit) {
  grpc::ClientContext context;
  SetDeadline(&context, std::chrono::seconds(5));
  v1::CorruptBlockRequest request;
  request.set_request_id(request_id);
  request.set_layer(layer);
  request.set_kv_head(kv_head);
  request.set_block(block);
  request.set_bit(bit);
  v1::CorruptBlockReply reply;
  if (admin_ == nullptr) return absl::UnavailableError("no admin address");
  const grpc::Status status = admin_->CorruptBlock(&context, request, &reply);
  return status.ok() ? absl::OkStatus() : FromGrpc(status);
}

absl::StatusOr<v1::DescribeReply> Client::Describe() {
  grpc::ClientContext context;
  SetDeadline(&context, std::chrono::seconds(5));
  v1::DescribeReply reply;
  const grpc::Status status = worker_->Describe(&context, {}, &reply);
  if (!status.ok()) return FromGrpc(status);
  return reply;
}

}  // namespace forecache::demo
