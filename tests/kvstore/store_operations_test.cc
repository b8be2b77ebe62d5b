// What an operator does with the store's binary: drain it, ask for its health.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kvstore/client/control_client.h"
#include "proto/health.grpc.pb.h"
#include "proto/store.grpc.pb.h"
#include "tests/kvstore/context.h"
#include "tests/kvstore/daemon.h"

namespace forecache {
namespace {

using grpc::health::v1::HealthCheckResponse;

constexpr Nanos kSoon = 10 * kSecond;

class StoreOperationsTest : public ::testing::Test {
 protected:
  void Start(std::vector<std::string> flags) {
    flags.push_back("--transports=tcp");
    flags.push_back("--dram-mib=8");
    daemon_ = std::make_unique<Daemon>(flags);
    const std::string ready = daemon_->Ready();
    address_ = FieldOf(ready, "grpc");
    admin_ = FieldOf(ready, "admin");
    ASSERT_FALSE(address_.empty()) << daemon_->Log();
    control_ = std::make_unique<ControlClient>(address_);
    channel_ = grpc::CreateChannel(address_,
                                   grpc::InsecureChannelCredentials());
  }

  absl::StatusOr<OpenedSession> Open() {
    const std::vector<int32_t> prompt(100, 7);
    return control_->OpenSession({"00ff", "llama", kTestGeometry, 10000.0f},
                                 prompt, "operations");
  }

  // The health of a service; SERVICE_UNKNOWN when nobody answers.
  HealthCheckResponse::ServingStatus Health(const std::string& service) {
    auto stub = grpc::health::v1::Health::NewStub(channel_);
    grpc::ClientContext context;
    grpc::health::v1::HealthCheckRequest request;
    request.set_service(service);
    HealthCheckResponse response;
    if (!stub->Check(&context, request, &response).ok()) {
      return HealthCheckResponse::SERVICE_UNKNOWN;
    }
    return response.status();
  }

  // Until the daemon has seen its signal.
  bool BecomesUnready() {
    const Nanos end = Clock::Real()->Now() + kSoon;
    while (Clock::Real()->Now() < end) {
      if (Health("ready") == HealthCheckResponse::NOT_SERVING) return true;
    }
    return false;
  }

  std::unique_ptr<Daemon> daemon_;
  std::string address_, admin_;
  std::unique_ptr<ControlClient> control_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(StoreOperationsTest, IsLiveAndReady) {
  Start({});
  EXPECT_EQ(Health(""), HealthCheckResponse::SERVING);
  EXPECT_EQ(Health("ready"), HealthCheckResponse::SERVING);
  EXPECT_EQ(Health("nonsense"), HealthCheckResponse::SERVICE_UNKNOWN);
}

TEST_F(StoreOperationsTest, DrainLetsSessionsEndAndTakesNoNewOnes) {
  Start({"--drain-seconds=60"});
  const auto session = Open();
  ASSERT_TRUE(session.ok()) << session.status();
  daemon_->Signal(SIGTERM);
  ASSERT_TRUE(BecomesUnready()) << daemon_->Log();
  EXPECT_EQ(Health(""), HealthCheckResponse::SERVING);
  EXPECT_TRUE(absl::IsUnavailable(Open().status())) << Open().status();
  EXPECT_TRUE(control_->Stats().ok());  // what runs goes on
  const Nanos started = Clock::Real()->Now();
  EXPECT_EQ(control_->CloseSession(session->handle), absl::OkStatus());
  EXPECT_EQ(daemon_->Join(), 0) << daemon_->Log();
  EXPECT_LT(Clock::Real()->Now() - started, kSoon);
  EXPECT_NE(daemon_->Log().find("drained sessions_cut_off=0"),
            std::string::npos)
      << daemon_->Log();
}

TEST_F(StoreOperationsTest, DrainEndsWithinItsBound) {
  Start({"--drain-seconds=1"});
  ASSERT_TRUE(Open().ok());
  const Nanos started = Clock::Real()->Now();
  daemon_->Signal(SIGTERM);
  EXPECT_EQ(daemon_->Join(), 0) << daemon_->Log();
  EXPECT_GE(Clock::Real()->Now() - started, kSecond / 2);
  EXPECT_LT(Clock::Real()->Now() - started, kSoon);
  EXPECT_NE(daemon_->Log().find("drained sessions_cut_off=1"),
            std::string::npos)
      << daemon_->Log();
}

TEST_F(StoreOperationsTest, DrainByRpc) {
  Start({"--drain-seconds=3600"});
  ASSERT_TRUE(Open().ok());
  auto admin = v1::StoreAdmin::NewStub(
      grpc::CreateChannel(admin_, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::DrainRequest request;
  request.set_timeout_ms(300);
  v1::DrainReply reply;
  const grpc::Status status = admin->Drain(&context, request, &reply);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(reply.sessions(), 1u);
  EXPECT_EQ(daemon_->Join(), 0) << daemon_->Log();
}

TEST_F(StoreOperationsTest, InterruptDoesNotWait) {
  Start({"--drain-seconds=3600"});
  ASSERT_TRUE(Open().ok());
  daemon_->Signal(SIGINT);
  EXPECT_EQ(daemon_->Join(), 0) << daemon_->Log();
}

TEST_F(StoreOperationsTest, SecondTermDoesNotWait) {
  Start({"--drain-seconds=3600"});
  ASSERT_TRUE(Open().ok());
  daemon_->Signal(SIGTERM);
  ASSERT_TRUE(BecomesUnready()) << daemon_->Log();
  daemon_->Signal(SIGTERM);
  EXPECT_EQ(daemon_->Join(), 0) << daemon_->Log();
}

}  // namespace
}  // namespace forecache
