// A store with several tenants.
#ifndef FORECACHE_TESTS_KVSTORE_TENANTS_TENANT_FIXTURE_H_
#define FORECACHE_TESTS_KVSTORE_TENANTS_TENANT_FIXTURE_H_

#include <string>
#include <vector>

#include "common/status.h"
#include "tests/kvstore/store_fixture.h"

namespace forecache {

inline TenantConfig TestTenant(const std::string& name,
                               const TierQuota& dram = {}) {
  TenantConfig config;
  config.name = name;
  config.secret = TenantSecret::FromPhrase("secret of " + name);
  const std::string token = "token of " + name;
  config.token_sha256 = Sha256(std::as_bytes(std::span(token)));
  config.quotas[int(StorageTier::kDram)] = dram;
  return config;
}

class TenantFixture : public StoreFixture {
 protected:
  void Configure(const std::vector<TenantConfig>& configs) {
    FC_CHECK_OK(store_->ConfigureTenants(configs).status());
  }
  TenantId IdOf(const std::string& name) {
    return *store_->tenants().Intern(name);
  }
  size_t HeldBy(const std::string& name) {
    return store_->tenants().AccountOf(IdOf(name))->held(StorageTier::kDram);
  }

  absl::StatusOr<NewSession> OpenAs(const OpenOptions& options,
                                    const TestContext& context) {
    return store_->OpenSession(TestModel(), context.tokens(), "test", options);
  }
  // Puts and seals what is missing.
  absl::Status FillSession(const NewSession& session, TenantId tenant,
                           const TestContext& context) {
    for (int i = session.cached_tokens / kSegmentTokens;
         i < context.blocks() / kSegmentBlocks; ++i) {
      for (int layer = 0; layer < context.geometry().layers; ++layer) {
        auto snapshot = store_->Snapshot(session.id, tenant);
        FC_RETURN_IF_ERROR(snapshot.status());
        const int first = i * kSegmentBlocks;
        FC_RETURN_IF_ERROR(store_->PutBlocks(
            *snapshot, layer, first, kSegmentBlocks,
            context.PutPayload(layer, first, kSegmentBlocks)));
      }
      FC_RETURN_IF_ERROR(store_
                             ->SealSegment(session.id, i,
                                           context.SegmentTokens(i), tenant)
                             .status());
    }
    return absl::OkStatus();
  }
  absl::Status FillAs(const OpenOptions& options, const TestContext& context) {
    auto session = OpenAs(options, context);
    FC_RETURN_IF_ERROR(session.status());
    const absl::Status filled = FillSession(*session, options.tenant, context);
    store_->CloseSession(session->id, options.tenant);
    return filled;
  }
  absl::Status FillAs(TenantId tenant, const TestContext& context) {
    return FillAs(OpenOptions{.tenant = tenant}, context);
  }
  int CachedFor(TenantId tenant, const TestContext& context) {
    return *store_->LookupPrefix(TestModel(), context.tokens(), tenant);
  }
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_TENANTS_TENANT_FIXTURE_H_
