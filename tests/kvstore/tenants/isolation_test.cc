// What one tenant can see, take and do of another's.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/limits.h"
#include "tests/kvstore/tenants/tenant_fixture.h"

namespace forecache {
namespace {

class IsolationTest : public TenantFixture {
 protected:
  IsolationTest() { Configure({TestTenant("acme"), TestTenant("zeta")}); }
  const TenantId acme_ = IdOf("acme");
  const TenantId zeta_ = IdOf("zeta");
};

TEST_F(IsolationTest, SameTokensAreOtherSegments) {
  const TestContext context(1, 2);
  ASSERT_EQ(FillAs(acme_, context), absl::OkStatus());
  EXPECT_EQ(CachedFor(acme_, context), 512);
  EXPECT_EQ(CachedFor(zeta_, context), 0);
  auto session = OpenAs({.tenant = zeta_}, context);
  ASSERT_TRUE(session.ok());
  EXPECT_EQ(session->cached_tokens, 0);
  // Nor does zeta's seal tell that acme had it.
  EXPECT_EQ(FillSession(*session, zeta_, context), absl::OkStatus());
  EXPECT_EQ(store_->metrics().segments_deduplicated->Value(), 0);
  EXPECT_EQ(store_->Occupancy().segments, 4);
}

TEST_F(IsolationTest, AnothersSessionIsUnknown) {
  const TestContext context(2, 1);
  auto session = OpenAs({.tenant = acme_}, context);
  ASSERT_TRUE(session.ok());
  const absl::Status unknown = store_->Snapshot(1, zeta_).status();
  EXPECT_EQ(unknown.code(),
            store_->Snapshot(session->id, zeta_).status().code());
  EXPECT_TRUE(absl::IsUnauthenticated(
      store_->Authorize(session->id, session->key, zeta_).status()));
  EXPECT_TRUE(absl::IsNotFound(
      store_->SealSegment(session->id, 0, context.SegmentTokens(0), zeta_)
          .status()));
  store_->CloseSession(session->id, zeta_);
  EXPECT_TRUE(store_->Authorize(session->id, session->key, acme_).ok());
}

TEST_F(IsolationTest, RemovedWhileItReads) {
  const TestContext context(3, 2);
  ASSERT_EQ(FillAs(acme_, context), absl::OkStatus());
  auto session = OpenAs({.tenant = acme_}, context);
  ASSERT_TRUE(session.ok());
  auto reading = store_->Authorize(session->id, session->key, acme_);
  ASSERT_TRUE(reading.ok());
  EXPECT_FALSE(reading->IsRevoked());
  Configure({TestTenant("zeta")});
  // What is under way has its bytes still, and is told to stop.
  EXPECT_TRUE(reading->IsRevoked());
  EXPECT_NE((*reading->segments)[0].view, nullptr);
  const auto later = store_->Authorize(session->id, session->key, acme_);
  EXPECT_TRUE(absl::IsPermissionDenied(later.status())) << later.status();
  EXPECT_NE(later.status().message().find("acme"), std::string::npos);
  EXPECT_TRUE(absl::IsPermissionDenied(
      store_->PutBlocks(*reading, 0, 32, 1, context.PutPayload(0, 0, 1))));
  EXPECT_TRUE(
      absl::IsPermissionDenied(OpenAs({.tenant = acme_}, context).status()));
  // Its pins are gone: all of it may go, and goes first.
  *reading = {};
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(FillAs(zeta_, TestContext(100 + i, 4)), absl::OkStatus());
  }
  EXPECT_GT(store_->metrics().segments_evicted->Value(), 2);
  EXPECT_EQ(HeldBy("acme"), 0);
  store_->CloseSession(session->id, acme_);
}

TEST_F(IsolationTest, AnotherSecretIsAnotherTenant) {
  const TestContext context(4, 1);
  ASSERT_EQ(FillAs(acme_, context), absl::OkStatus());
  auto session = OpenAs({.tenant = acme_}, context);
  TenantConfig changed = TestTenant("acme");
  changed.secret = TenantSecret::FromPhrase("a new secret, or so");
  Configure({changed, TestTenant("zeta")});
  EXPECT_TRUE(absl::IsPermissionDenied(
      store_->Authorize(session->id, session->key, acme_).status()));
  EXPECT_EQ(CachedFor(acme_, context), 0);
}

TEST_F(IsolationTest, OtherSharesLeaveSessionsAlone) {
  const TestContext context(5, 1);
  auto session = OpenAs({.tenant = acme_}, context);
  TenantConfig changed = TestTenant("acme");
  changed.probe_share = 7;
  Configure({changed, TestTenant("zeta")});
  auto snapshot = store_->Authorize(session->id, session->key, acme_);
  ASSERT_TRUE(snapshot.ok());
  EXPECT_EQ(snapshot->tenant->probe_share, 7);
}

TEST_F(IsolationTest, FloorsMustFitTheMemory) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_
          ->ConfigureTenants(
              {TestTenant("a", {.floor_bytes = size_t{9} << 20}),
               TestTenant("b", {.floor_bytes = size_t{8} << 20})})
          .status()));
  EXPECT_NE(store_->tenants().Find(acme_), nullptr);  // nothing changed
}

// Labels are bounded: the first ones by name, the rest together.
TEST_F(IsolationTest, MetricsNameTheFirstTenants) {
  std::vector<TenantConfig> many;
  for (int i = 0; i < 2 * kTenantsExported; ++i) {
    many.push_back(TestTenant("t" + std::to_string(i)));
  }
  Configure(many);
  store_->UpdateGauges();
  for (int i : {0, 2 * kTenantsExported - 1}) {
    ASSERT_EQ(FillAs(IdOf("t" + std::to_string(i)), TestContext(i, 1)),
              absl::OkStatus());
  }
  store_->UpdateGauges();
  const std::string text = metrics_->Text();
  const std::string bytes = std::to_string(SealedBytes());
  const std::string name = "forecache_store_tenant_held_bytes{tenant=\"";
  EXPECT_NE(text.find(name + "t0\",tier=\"dram\"} " + bytes),
            std::string::npos) << text;
  EXPECT_NE(text.find(name + "other\",tier=\"dram\"} " + bytes),
            std::string::npos);
  EXPECT_EQ(text.find(name + "t" + std::to_string(2 * kTenantsExported - 1)),
            std::string::npos);
}

// --- Domains ----------------------------------------------------------------

class DomainTest : public TenantFixture {
 protected:
  DomainTest() {
    TenantConfig domain = TestTenant("public");
    domain.is_domain = true;
    TenantConfig writer = TestTenant("writer"), reader = TestTenant("reader");
    writer.writes = {"public"};
    reader.reads = {"public"};
    Configure({domain, writer, reader, TestTenant("stranger")});
  }
  OpenOptions As(const std::string& tenant, size_t domain_tokens = 256) {
    return {.tenant = IdOf(tenant), .domain = "public",
            .domain_tokens = domain_tokens};
  }
};

TEST_F(DomainTest, LeadingSegmentsAreShared) {
  const TestContext context(1, 3);
  ASSERT_EQ(FillAs(As("writer"), context), absl::OkStatus());
  EXPECT_EQ(HeldBy("public"), SealedBytes());
  EXPECT_EQ(HeldBy("writer"), 2 * SealedBytes());
  auto reading = OpenAs(As("reader"), context);
  ASSERT_TRUE(reading.ok());
  EXPECT_EQ(reading->cached_tokens, 256);  // and the rest is the writer's own
  EXPECT_EQ(FillSession(*reading, IdOf("reader"), context), absl::OkStatus());
  EXPECT_EQ(HeldBy("public"), SealedBytes());
  EXPECT_EQ(HeldBy("reader"), 2 * SealedBytes());
  // Without asking, nothing is shared; strangers may not even ask.
  EXPECT_EQ(CachedFor(IdOf("reader"), context), 0);
  EXPECT_TRUE(
      absl::IsPermissionDenied(OpenAs(As("stranger"), context).status()));
  // Nor may one ask for a tenant's segments as if it were a domain.
  OpenOptions theft = As("reader");
  theft.domain = "writer";
  EXPECT_TRUE(absl::IsPermissionDenied(OpenAs(theft, context).status()));
}

TEST_F(DomainTest, ReadersAddNothing) {
  const TestContext context(2, 2);
  ASSERT_EQ(FillAs(As("reader", 512), context), absl::OkStatus());
  EXPECT_EQ(HeldBy("public"), 0);
  EXPECT_EQ(HeldBy("reader"), 2 * SealedBytes());
  EXPECT_EQ(CachedFor(IdOf("reader"), context), 512);
  auto writing = OpenAs(As("writer", 512), context);
  ASSERT_TRUE(writing.ok());
  EXPECT_EQ(writing->cached_tokens, 0);
}

}  // namespace
}  // namespace forecache
