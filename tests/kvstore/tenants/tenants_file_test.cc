#include "kvstore/tenants/tenants_file.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "kvstore/tenants/registry.h"

namespace forecache {
namespace {

const std::string kHash(64, 'a');

std::string Tenant(const std::string& fields) {
  return absl::StrCat(R"({"tenants": [{"name": "acme", "token_sha256": ")",
                      kHash, R"(", "secret": "sixteen bytes, or more")",
                      fields, "}]}");
}

TEST(TenantsFileTest, ReadsAllFields) {
  auto parsed = ParseTenants(R"({
    "domains": [{"name": "public", "secret": "known to all of them",
                 "ssd": {"ceiling_bytes": 5}}],
    "tenants": [{"name": "acme", "secret": "sixteen bytes, or more",
                 "token_sha256": ")" + kHash + R"(",
                 "certificate_name": "acme-worker",
                 "dram": {"floor_bytes": 1, "ceiling_bytes": 2},
                 "bandwidth_share": 3, "probe_share": 4,
                 "reads": ["public"], "writes": ["public"]}]})", ".");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ASSERT_EQ(parsed->size(), 2);
  const TenantConfig& domain = (*parsed)[0];
  EXPECT_TRUE(domain.is_domain);
  EXPECT_EQ(domain.quotas[1].ceiling_bytes, 5);
  EXPECT_EQ(domain.quotas[0], TierQuota());
  const TenantConfig& acme = (*parsed)[1];
  EXPECT_EQ(acme.name, "acme");
  EXPECT_EQ(acme.token_sha256->at(31), 0xaa);
  EXPECT_EQ(acme.certificate_name, "acme-worker");
  EXPECT_EQ(acme.quotas[0], (TierQuota{1, 2}));
  EXPECT_EQ(acme.bandwidth_share, 3);
  EXPECT_EQ(acme.probe_share, 4);
  EXPECT_EQ(acme.reads, std::vector<std::string>{"public"});
  EXPECT_NE(acme.secret.bytes, domain.secret.bytes);
}

// Each names where it is wrong, and the limit.
TEST(TenantsFileTest, ErrorsNameTheFieldAndItsLimit) {
  const std::string other =
      R"(}, {"name": "b", "secret": "sixteen bytes, of another",)";
  const struct {
    std::string text;
    std::vector<std::string> says;
  } cases[] = {
      {"{\n \"tenants\": [}", {"line 2"}},
      {"[]", {"file", "object"}},
      {R"({"tenant": []})", {"tenant", "no such field"}},
      {R"({"tenants": {}})", {"tenants", "list"}},
      {Tenant(R"(, "bandwith_share": 3)"), {"tenants[0].bandwith_share"}},
      {Tenant(R"(, "bandwidth_share": 0)"),
       {"tenants[0].bandwidth_share", "1 to 1000"}},
      {Tenant(R"(, "probe_share": 1.5)"), {"tenants[0].probe_share"}},
      {Tenant(R"(, "probe_share": 1e999)"), {"overflow", "1e999"}},
      {Tenant(R"(, "dram": {"floor_bytes": -1})"),
       {"tenants[0].dram.floor_bytes", "-1"}},
      {Tenant(R"(, "ssd": {"floor_bytes": 2, "ceiling_bytes": 1})"),
       {"tenants[0].ssd.ceiling_bytes", "below floor_bytes"}},
      {Tenant(R"(, "secret_file": "x")"), {"tenants[0].secret"}},
      {Tenant(R"(, "reads": ["nowhere"])"), {"acme", "reads", "nowhere"}},
      {Tenant(other + R"("token_sha256": ")" + kHash + "\""),
       {"b", "token_sha256", "another one"}},
      {Tenant(other + R"("token_sha256": "ab")"),
       {"tenants[1].token_sha256", "64"}},
      {Tenant(other + R"("reads": [])"),
       {"tenants[1].token_sha256", "certificate_name"}},
      {R"({"tenants": [{"name": "Acme"}]})", {"tenants[0].name", "64"}},
      {R"({"tenants": [{"name": "other"}]})", {"tenants[0].name", "other"}},
      {R"({"tenants": [{"name": "a", "secret": "short"}]})",
       {"tenants[0].secret", "16"}},
      {R"({"tenants": [{"name": "a", "secret_file": "/no/such"}]})",
       {"tenants[0].secret_file", "/no/such"}},
      {R"({"domains": [{"name": "a", "secret": "sixteen bytes, or more",
           "token_sha256": ""}]})", {"domains[0].token_sha256"}},
  };
  for (const auto& c : cases) {
    auto parsed = ParseTenants(c.text, ".");
    EXPECT_TRUE(absl::IsInvalidArgument(parsed.status())) << c.text;
    for (const std::string& word : c.says) {
      EXPECT_NE(parsed.status().message().find(word), std::string::npos)
          << parsed.status() << " should say " << word;
    }
  }
}

TEST(TenantsFileTest, TenantsAreBounded) {
  std::string text = R"({"tenants": [)";
  for (size_t i = 0; i <= kTenantsMax; ++i) {
    text += absl::StrCat(i == 0 ? "" : ",", R"({"name": "t)", i,
                         R"(", "certificate_name": "c)", i,
                         R"(", "secret": "sixteen bytes, or more)", i, "\"}");
  }
  auto parsed = ParseTenants(text + "]}", ".");
  EXPECT_TRUE(absl::IsInvalidArgument(parsed.status()));
  EXPECT_NE(parsed.status().message().find(absl::StrCat(kTenantsMax)),
            std::string::npos);
}

TEST(TenantsFileTest, SeesThatItChanged) {
  const std::string path =
      std::string(std::getenv("TEST_TMPDIR")) + "/tenants.json";
  TenantsFile file(path);
  EXPECT_FALSE(file.Changed());
  EXPECT_FALSE(file.Load().ok());
  std::ofstream(path) << Tenant("");
  EXPECT_TRUE(file.Changed());
  auto loaded = file.Load();
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_FALSE(file.Changed());
  std::ofstream(path) << "{";
  EXPECT_TRUE(file.Changed());
  const absl::Status bad = file.Load().status();
  EXPECT_NE(bad.message().find("tenants.json"), std::string::npos) << bad;
  EXPECT_FALSE(file.Changed());  // it is told once
}

TEST(TenantsFileTest, TellsWhoseSessionsMustEnd) {
  TenantRegistry registry(TenantSecret::FromPhrase("s"));
  auto config = [](const std::string& name, const std::string& secret) {
    TenantConfig tenant;
    tenant.name = name;
    tenant.secret = TenantSecret::FromPhrase(secret);
    return tenant;
  };
  auto ended = registry.Configure({config("a", "1"), config("b", "2")});
  ASSERT_TRUE(ended.ok());
  EXPECT_EQ(*ended, std::vector<TenantId>{kDefaultTenant});
  const TenantId a = *registry.Intern("a"), b = *registry.Intern("b");
  auto same = registry.Configure({config("a", "1"), config("b", "2")});
  EXPECT_TRUE(same->empty());
  EXPECT_EQ(*registry.Configure({config("a", "1"), config("b", "3")}),
            std::vector<TenantId>{b});
  EXPECT_EQ(*registry.Configure({config("b", "3")}), std::vector<TenantId>{a});
  EXPECT_EQ(registry.Find(a), nullptr);
  EXPECT_FALSE(registry.AccountOf(a)->TryCharge(StorageTier::kDram, 1));
  auto back = registry.Configure({config("a", "9"), config("b", "3")});
  EXPECT_TRUE(back->empty());
  EXPECT_EQ(registry.Find(a)->id, a);
}

}  // namespace
}  // namespace forecache
