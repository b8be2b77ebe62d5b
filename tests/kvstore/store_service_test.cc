// The control plane over real gRPC, in one process.
#include "kvstore/store_service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <vector>

#include "kvstore/client/control_client.h"
#include "tests/kvstore/data_plane_fixture.h"

namespace forecache {
namespace {

class StoreServiceTest : public DataPlaneFixture {
 protected:
  StoreServiceTest()
      : options_{"store-test", true, true},
        service_(store_.get(), plane_.get(), options_),
        admin_(store_.get(), options_),
        strict_admin_(store_.get(), {"store-test", false, true}) {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(),
                             &port);
    builder.RegisterService(&service_);
    builder.RegisterService(&admin_);
    server_ = builder.BuildAndStart();
    client_address_ = "127.0.0.1:" + std::to_string(port);
    control_ = std::make_unique<ControlClient>(client_address_);
    channel_ = grpc::CreateChannel(client_address_,
                                   grpc::InsecureChannelCredentials());
    stub_ = v1::KvStore::NewStub(channel_);
    admin_stub_ = v1::StoreAdmin::NewStub(channel_);
  }
  ~StoreServiceTest() override { server_->Shutdown(); }

  static ModelFingerprint Model() {
    return {"00ff", "llama", kTestGeometry, 10000.0f};
  }
  static std::vector<int32_t> Signed(std::span<const uint32_t> tokens) {
    return {tokens.begin(), tokens.end()};
  }
  static v1::OpenSessionRequest GoodOpen() {
    v1::OpenSessionRequest request;
    v1::ModelIdentity* model = request.mutable_model();
    model->set_weights_digest("00ff");
    model->set_architecture("llama");
    model->set_layers(2);
    model->set_kv_heads(2);
    model->set_head_dim(32);
    model->set_group(2);
    model->set_kv_type(1);
    model->set_layout_version(1);
    request.add_prompt_tokens(1);
    return request;
  }
  // Refused with `code`, naming `field`.
  void ExpectRefused(const v1::OpenSessionRequest& request,
                     grpc::StatusCode code, const std::string& field) {
    grpc::ClientContext context;
    v1::OpenSessionReply reply;
    grpc::Status status = stub_->OpenSession(&context, request, &reply);
    EXPECT_EQ(status.error_code(), code) << field;
    EXPECT_NE(status.error_message().find(field), std::string::npos)
        << status.error_message();
  }

  const StoreServiceOptions options_;
  StoreService service_;
  StoreAdminService admin_;
  StoreAdminService strict_admin_;
  std::unique_ptr<grpc::Server> server_;
  std::string client_address_;
  std::unique_ptr<ControlClient> control_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::KvStore::Stub> stub_;
  std::unique_ptr<v1::StoreAdmin::Stub> admin_stub_;
};

TEST_F(StoreServiceTest, TheLifeOfASession) {
  ASSERT_EQ(control_->WaitReady(5000), absl::OkStatus());
  auto store = control_->Attach("worker-1");
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_EQ(store->store_id, "store-test");
  EXPECT_EQ(store->data_plane, plane_->Address());
  ASSERT_EQ(Connect(), absl::OkStatus());
  TestContext context(1, 1);
  auto opened =
      control_->OpenSession(Model(), Signed(context.tokens()), "request-1");
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->cached_tokens, 0);
  for (int layer : {0, 1}) {
    ASSERT_EQ(ClientPut(opened->handle, context, layer, 0, 16),
              absl::OkStatus());
  }
  ASSERT_EQ(control_->SealSegment(opened->handle, 0,
                                  Signed(context.SegmentTokens(0))),
            absl::OkStatus());
  EXPECT_EQ(*control_->LookupPrefix(Model(), Signed(context.tokens())), 256);
  auto second =
      control_->OpenSession(Model(), Signed(context.tokens()), "request-2");
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(second->cached_tokens, 256);
  KeepingSink sink;
  ASSERT_EQ(ClientFetch(second->handle, 1, AllEntries(kTestGeometry, 16),
                        &sink),
            absl::OkStatus());
  ExpectBlock(sink, context, 1, 1, 15);
  EXPECT_EQ(control_->CloseSession(opened->handle), absl::OkStatus());
  EXPECT_EQ(control_->CloseSession(opened->handle), absl::OkStatus());
  auto stats = control_->Stats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->sessions, 1);
  EXPECT_EQ(stats->segments, 1);
  EXPECT_EQ(stats->blocks_put, 64);
  EXPECT_EQ(stats->blocks_pushed, 32);
  EXPECT_EQ(stats->prefix_tokens_asked, 2 * 257);
  EXPECT_EQ(stats->prefix_tokens_hit, 256);
  EXPECT_EQ(stats->transport, "loopback");
  EXPECT_FALSE(stats->isa.empty());
  EXPECT_EQ(stats->dram_bytes, SealedBytes());
}

TEST_F(StoreServiceTest, ErrorsNameTheField) {
  v1::OpenSessionRequest request = GoodOpen();
  request.mutable_model()->set_layers(1u << 31);
  ExpectRefused(request, grpc::StatusCode::INVALID_ARGUMENT, "layers");
  request = GoodOpen();
  request.mutable_model()->set_kv_type(257);
  ExpectRefused(request, grpc::StatusCode::INVALID_ARGUMENT, "kv_type");
  request = GoodOpen();
  request.mutable_model()->set_layout_version(2);
  ExpectRefused(request, grpc::StatusCode::FAILED_PRECONDITION,
                "layout_version");
  request = GoodOpen();
  request.clear_prompt_tokens();
  ExpectRefused(request, grpc::StatusCode::INVALID_ARGUMENT, "prompt_tokens");
  request = GoodOpen();
  request.set_request_id(std::string(129, 'x'));
  ExpectRefused(request, grpc::StatusCode::INVALID_ARGUMENT, "request_id");
  request = GoodOpen();
  request.clear_model();
  ExpectRefused(request, grpc::StatusCode::FAILED_PRECONDITION,
                "layout_version");

  v1::AttachRequest attach;
  attach.set_wire_version(99);
  v1::AttachReply reply;
  grpc::ClientContext context;
  grpc::Status status = stub_->Attach(&context, attach, &reply);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_NE(status.error_message().find("wire_version"), std::string::npos);
}

TEST_F(StoreServiceTest, PutBlocksWithoutADataPlane) {
  TestContext context(2, 1);
  NewSession session = Open(context);
  std::vector<std::byte> payload = context.PutPayload(0, 2, 3);
  v1::PutBlocksRequest request;
  request.set_session_id(session.id);
  request.set_first_block(2);
  request.set_block_count(3);
  request.set_payload(payload.data(), payload.size());
  v1::PutBlocksReply reply;
  {
    grpc::ClientContext call;
    ASSERT_TRUE(stub_->PutBlocks(&call, request, &reply).ok());
  }
  (*request.mutable_payload())[9] ^= 1;
  grpc::ClientContext call;
  EXPECT_EQ(stub_->PutBlocks(&call, request, &reply).error_code(),
            grpc::StatusCode::DATA_LOSS);
}

TEST_F(StoreServiceTest, CorruptBlock) {
  TestContext context(3, 1);
  NewSession session = Open(context);
  ASSERT_EQ(PutAndSeal(session.id, context, 0), absl::OkStatus());
  v1::CorruptBlockRequest request;
  request.set_session_id(session.id);
  request.set_layer(1);
  request.set_kv_head(1);
  request.set_block(4);
  request.set_bit(100);
  v1::CorruptBlockReply reply;
  EXPECT_EQ(strict_admin_.CorruptBlock(nullptr, &request, &reply).error_code(),
            grpc::StatusCode::PERMISSION_DENIED);
  {
    grpc::ClientContext call;
    ASSERT_TRUE(admin_stub_->CorruptBlock(&call, request, &reply).ok());
  }
  ASSERT_EQ(Connect(), absl::OkStatus());
  KeepingSink sink;
  ASSERT_EQ(ClientFetch(HandleOf(session, context), 1, {{4, 1, 0, 0, 0}},
                        &sink),
            absl::OkStatus());
  EXPECT_TRUE(absl::IsDataLoss((sink.failed[{1, 4}])));
  EXPECT_EQ(control_->Stats()->segments_dropped, 1);
  request.set_block(400);
  grpc::ClientContext call;
  EXPECT_EQ(admin_stub_->CorruptBlock(&call, request, &reply).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST_F(StoreServiceTest, NobodyThereIsUnavailable) {
  ControlClient nobody("127.0.0.1:1");
  auto stats = nobody.Stats();
  EXPECT_TRUE(absl::IsUnavailable(stats.status())) << stats.status();
  EXPECT_NE(stats.status().message().find("127.0.0.1:1"), std::string::npos);
  EXPECT_TRUE(absl::IsUnavailable(nobody.WaitReady(50)));
}

}  // namespace
}  // namespace forecache
