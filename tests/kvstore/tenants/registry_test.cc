#include "kvstore/tenants/registry.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "common/limits.h"

namespace forecache {
namespace {

TEST(TenantRegistryTest, OneTenantWithoutConfiguration) {
  const TenantSecret secret = TenantSecret::FromPhrase("s");
  TenantRegistry registry(secret);
  const TenantRef tenant = registry.Find(kDefaultTenant);
  ASSERT_NE(tenant, nullptr);
  EXPECT_EQ(tenant->name, "default");
  EXPECT_EQ(tenant->secret.bytes, secret.bytes);
  EXPECT_TRUE(tenant->account->TryCharge(StorageTier::kDram, size_t{1} << 40));
  EXPECT_EQ(registry.Find(1), nullptr);
}

TEST(TenantRegistryTest, NamesKeepTheirHandles) {
  TenantRegistry registry(TenantSecret::FromPhrase("s"));
  const TenantId acme = *registry.Intern("acme");
  EXPECT_NE(acme, kDefaultTenant);
  EXPECT_EQ(*registry.Intern("acme"), acme);
  EXPECT_EQ(*registry.Intern("default"), kDefaultTenant);
  EXPECT_EQ(registry.NameOf(acme), "acme");
  // A name that records on a disk have, and no tenant that may open sessions.
  EXPECT_EQ(registry.Find(acme), nullptr);
  registry.AccountOf(acme)->Charge(StorageTier::kSsd, 7);
  EXPECT_EQ(registry.AccountOf(acme)->held(StorageTier::kSsd), 7);
}

TEST(TenantRegistryTest, NamesAreBounded) {
  TenantRegistry registry(TenantSecret::FromPhrase("s"));
  for (size_t i = 1; i < kTenantNamesMax; ++i) {
    ASSERT_TRUE(registry.Intern(absl::StrCat("tenant", i)).ok());
  }
  EXPECT_EQ(registry.Intern("one-more").status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(*registry.Intern("tenant1"), 1);
}

TEST(TenantAccountTest, NeverPassesItsCeiling) {
  TenantAccount account;
  account.SetQuota(StorageTier::kDram, {.floor_bytes = 1, .ceiling_bytes = 10});
  EXPECT_TRUE(account.TryCharge(StorageTier::kDram, 10));
  EXPECT_FALSE(account.TryCharge(StorageTier::kDram, 1));
  EXPECT_TRUE(account.TryCharge(StorageTier::kSsd, 1));
  account.Credit(StorageTier::kDram, 4);
  EXPECT_FALSE(account.TryCharge(StorageTier::kDram, SIZE_MAX));
  EXPECT_TRUE(account.TryCharge(StorageTier::kDram, 4));
  // A ceiling that came down takes nothing away, and admits nothing.
  account.SetQuota(StorageTier::kDram, {.ceiling_bytes = 5});
  EXPECT_EQ(account.held(StorageTier::kDram), 10);
  EXPECT_FALSE(account.TryCharge(StorageTier::kDram, 0));
}

}  // namespace
}  // namespace forecache
