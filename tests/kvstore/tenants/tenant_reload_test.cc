#include "kvstore/tenant_reload.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "tests/kvstore/hello.h"
#include "tests/kvstore/tenants/tenant_fixture.h"

namespace forecache {
namespace {

class TenantReloadTest : public TenantFixture {
 protected:
  TenantReloadTest()
      : path_(std::string(std::getenv("TEST_TMPDIR")) + "/tenants.json"),
        plane_(store_.get(), std::make_unique<LoopbackTransport>(), {}),
        reload_(path_, store_.get(), &plane_) {}

  void Write(const std::string& text) { std::ofstream(path_) << text; }
  static std::string Tenants(const std::string& names) {
    std::string list;
    for (char name : names) {
      list += std::string(list.empty() ? "" : ",") + R"({"name": ")" + name +
              R"(", "secret": "sixteen bytes, or )" + name +
              R"(", "certificate_name": ")" + name + R"("})";
    }
    return R"({"tenants": [)" + list + "]}";
  }
  double Loads() { return store_->metrics().tenant_loads->Value(); }
  double Refused() { return store_->metrics().tenant_loads_refused->Value(); }

  const std::string path_;
  DataPlane plane_;
  TenantReload reload_;
};

TEST_F(TenantReloadTest, ABadFileChangesNothing) {
  Write(Tenants("ab"));
  ASSERT_EQ(reload_.Reload(), absl::OkStatus());
  EXPECT_NE(store_->tenants().Find(IdOf("a")), nullptr);
  EXPECT_EQ(store_->tenants().Find(kDefaultTenant), nullptr);
  reload_.Poll();
  EXPECT_EQ(Loads(), 1);  // it is as it was
  Write(R"({"tenants": [{"name": "A"}]})");
  reload_.Poll();
  reload_.Poll();
  EXPECT_EQ(Refused(), 1);  // told once
  EXPECT_NE(store_->tenants().Find(IdOf("a")), nullptr);
  Write(Tenants("b"));
  reload_.Poll();
  EXPECT_EQ(Loads(), 2);
  EXPECT_EQ(store_->tenants().Find(IdOf("a")), nullptr);
  EXPECT_NE(store_->tenants().Find(IdOf("b")), nullptr);
}

// What Attach gave to a worker of a removed tenant opens nothing any more.
TEST_F(TenantReloadTest, GrantsGoWithTheirTenant) {
  Write(Tenants("ab"));
  ASSERT_EQ(reload_.Reload(), absl::OkStatus());
  const StoreAddress of_a = AddressOf(plane_, IdOf("a"));
  const StoreAddress of_b = AddressOf(plane_, IdOf("b"));
  Write(Tenants("b"));
  reload_.Poll();
  for (const auto& [address, taken] :
       {std::pair{of_a, false}, std::pair{of_b, true}}) {
    ManualPeer peer;
    Endpoint* to = *peer.transport_.Connect(plane_.Address());
    auto [header, payload] = HelloMessage(address);
    peer.Send(to, header, payload);
    for (int i = 0; i < 10; ++i) {
      peer.transport_.Progress();
      plane_.RunOnce();
    }
    ASSERT_EQ(peer.headers.size(), 1);
    EXPECT_EQ(peer.Last().type() == wire::MessageType::kHelloAck, taken);
  }
}

}  // namespace
}  // namespace forecache
