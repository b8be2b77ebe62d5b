// Who a caller is, over real gRPC and real TLS.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "common/tls.h"
#include "kvstore/client/control_client.h"
#include "kvstore/store_service.h"
#include "tests/kvstore/data_plane_fixture.h"
#include "tests/kvstore/tenants/tenant_fixture.h"
#include "tests/testing/certificates.h"

namespace forecache {
namespace {

std::string Folder() { return std::getenv("TEST_TMPDIR"); }

class CredentialsTest : public DataPlaneFixture {
 protected:
  CredentialsTest()
      : authority_(Folder(), "authority"),
        stranger_(Folder(), "stranger"),
        service_(store_.get(), plane_.get(), Options()),
        admin_(store_.get(), Options()) {
    TenantConfig acme = TestTenant("acme"), zeta = TestTenant("zeta");
    acme.certificate_name = "acme-worker";
    zeta.token_sha256.reset();
    zeta.certificate_name = "zeta-worker";
    FC_CHECK_OK(store_->ConfigureTenants({acme, zeta}).status());
    const TestAuthority::Pair own = authority_.Sign("store");
    auto credentials =
        TlsServer({own.certificate, own.key, authority_.certificate()},
                  /*clients_must=*/false);
    FC_CHECK_OK(credentials.status());
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", *credentials, &port);
    builder.RegisterService(&service_);
    builder.RegisterService(&admin_);
    server_ = builder.BuildAndStart();
    FC_CHECK(server_ != nullptr);
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  ~CredentialsTest() override { server_->Shutdown(); }

  static StoreServiceOptions Options() {
    StoreServiceOptions options;
    options.store_id = "store-test";
    options.fault_injection = true;
    options.admin_token = "the admin's own token";
    return options;
  }

  // A client with a token and a certificate; "" is none.
  std::unique_ptr<ControlClient> Client(const std::string& token,
                                        const std::string& common_name,
                                        TestAuthority* signer = nullptr) {
    StoreCredentialFlags flags;
    flags.ca = authority_.certificate();
    if (!token.empty()) {
      flags.token_file = Folder() + "/token";
      std::ofstream(flags.token_file) << token << "\n";
    }
    if (!common_name.empty()) {
      if (signer == nullptr) signer = &authority_;
      const TestAuthority::Pair pair = signer->Sign(common_name);
      flags.certificate = pair.certificate;
      flags.key = pair.key;
    }
    auto credentials = LoadStoreCredentials(flags, {address_});
    FC_CHECK_OK(credentials.status());
    return std::make_unique<ControlClient>(address_, *credentials);
  }
  static absl::StatusCode Attach(const std::unique_ptr<ControlClient>& client) {
    return client->Attach("test").status().code();
  }

  static ModelFingerprint Model() {
    return {"00ff", "llama", kTestGeometry, 10000.0f};
  }

  static constexpr auto kOk = absl::StatusCode::kOk;
  static constexpr auto kRefused = absl::StatusCode::kUnauthenticated;
  TestAuthority authority_, stranger_;
  StoreService service_;
  StoreAdminService admin_;
  std::unique_ptr<grpc::Server> server_;
  std::string address_;
};

TEST_F(CredentialsTest, TokenOrCertificateAndNothingElse) {
  EXPECT_EQ(Attach(Client("token of acme", "")), kOk);
  EXPECT_EQ(Attach(Client("", "acme-worker")), kOk);
  EXPECT_EQ(Attach(Client("", "zeta-worker")), kOk);
  EXPECT_EQ(Attach(Client("token of acme", "acme-worker")), kOk);
  EXPECT_EQ(Attach(Client("", "")), kRefused);
  EXPECT_EQ(Attach(Client("token of zeta", "")), kRefused);
  EXPECT_EQ(Attach(Client("token of acm", "")), kRefused);
  EXPECT_EQ(Attach(Client("", "nobody")), kRefused);
  // Two that do not agree are none; a good one mends no bad one.
  EXPECT_EQ(Attach(Client("token of acme", "zeta-worker")), kRefused);
  EXPECT_EQ(Attach(Client("bad token", "zeta-worker")), kRefused);
  EXPECT_GE(store_->metrics().refused_calls->Value(), 6);
}

TEST_F(CredentialsTest, ForeignCertificatesDoNotConnect) {
  EXPECT_EQ(Attach(Client("", "acme-worker", &stranger_)),
            absl::StatusCode::kUnavailable);
  // Nor does a client take a store that its authority did not sign.
  StoreCredentialFlags flags;
  flags.ca = stranger_.certificate();
  auto credentials = LoadStoreCredentials(flags, {address_});
  ASSERT_TRUE(credentials.ok());
  ControlClient client(address_, *credentials);
  EXPECT_TRUE(absl::IsUnavailable(client.Attach("test").status()));
  // In the clear, nobody answers.
  ControlClient clear(address_);
  EXPECT_FALSE(clear.Attach("test").ok());
}

TEST_F(CredentialsTest, EveryCallNeedsOne) {
  auto nobody = Client("", "");
  const std::vector<int32_t> prompt(300);
  EXPECT_EQ(nobody->OpenSession(Model(), prompt, "r").status().code(),
            kRefused);
  EXPECT_EQ(nobody->LookupPrefix(Model(), prompt).status().code(), kRefused);
  EXPECT_EQ(nobody->CloseSession({}).code(), kRefused);
  EXPECT_EQ(nobody->SealSegment({}, 0, {}).code(), kRefused);
  EXPECT_EQ(nobody->Stats().status().code(), kRefused);
  // What all tenants do together is the admin's to see.
  EXPECT_EQ(Client("token of acme", "")->Stats().status().code(), kRefused);
  EXPECT_TRUE(Client("the admin's own token", "")->Stats().ok());
  EXPECT_EQ(Attach(Client("the admin's own token", "")), kRefused);
}

TEST_F(CredentialsTest, AdminHasItsOwn) {
  auto call = [&](const std::string& token) {
    auto channel = TlsClient({"", "", authority_.certificate()});
    auto stub =
        v1::StoreAdmin::NewStub(grpc::CreateChannel(address_, *channel));
    grpc::ClientContext context;
    if (!token.empty()) {
      context.AddMetadata("authorization", "Bearer " + token);
    }
    v1::CorruptBlockReply reply;
    return stub->CorruptBlock(&context, {}, &reply).error_code();
  };
  EXPECT_EQ(call(""), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(call("token of acme"), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(call("the admin's own token"), grpc::StatusCode::NOT_FOUND);
}

// From the credential to the blocks: a session of one tenant, by the workers
// of both.
TEST_F(CredentialsTest, SessionsAreServedToTheirTenantAlone) {
  auto acme = Client("token of acme", "");
  auto zeta = Client("", "zeta-worker");
  const TestContext context(1, 1);
  const std::vector<int32_t> prompt(context.tokens().begin(),
                                    context.tokens().end());
  auto opened = acme->OpenSession(Model(), prompt, "r");
  ASSERT_TRUE(opened.ok()) << opened.status();
  const auto connect = [&](ControlClient& control) {
    return Await([&](DataClient::Done done) {
      auto store = control.Attach("worker");
      FC_CHECK_OK(store.status());
      return client_->Connect(*store, std::move(done));
    });
  };
  ASSERT_EQ(connect(*zeta), absl::OkStatus());
  EXPECT_EQ(ClientPut(opened->handle, context, 0, 0, 1).code(), kRefused);
  EXPECT_EQ(zeta->SealSegment(opened->handle, 0,
                              std::span(prompt).first(kSegmentTokens))
                .code(),
            absl::StatusCode::kNotFound);
  ASSERT_EQ(connect(*acme), absl::OkStatus());
  EXPECT_EQ(ClientPut(opened->handle, context, 0, 0, 1), absl::OkStatus());
  // Removed while it is at work: a typed error, from both planes.
  FC_CHECK_OK(store_->ConfigureTenants({TestTenant("other")}).status());
  const absl::Status put = ClientPut(opened->handle, context, 0, 1, 1);
  EXPECT_TRUE(absl::IsPermissionDenied(put)) << put;
  EXPECT_EQ(acme->CloseSession(opened->handle).code(), kRefused);
}

TEST(StoreCredentialsTest, InTheClearOnlyToThisHost) {
  StoreCredentialFlags flags;
  auto load = [&](const std::string& store) {
    return LoadStoreCredentials(flags, {store}).status();
  };
  EXPECT_TRUE(absl::IsInvalidArgument(load("127.0.0.1:1")));
  flags.insecure = true;
  EXPECT_EQ(load("127.0.0.1:1"), absl::OkStatus());
  EXPECT_EQ(load("[::1]:1"), absl::OkStatus());
  for (const char* remote : {"10.0.0.1:1", "127.0.0.1.example.com:1",
                             "store:1", "0.0.0.0:1"}) {
    const absl::Status refused = load(remote);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << remote;
    EXPECT_NE(refused.message().find("--store-ca"), std::string::npos);
  }
  flags.ca = "/does/not/exist";
  EXPECT_FALSE(load("127.0.0.1:1").ok());
}

}  // namespace
}  // namespace forecache
