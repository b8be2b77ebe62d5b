#include "kvstore/tenant_metrics.h"

#include "common/limits.h"

namespace forecache {
namespace {

TenantMetrics::Series MakeSeries(Metrics* metrics, const std::string& tenant) {
  TenantMetrics::Series series;
  series.pushed_bytes = metrics->AddCounter(
      "forecache_store_tenant_pushed_bytes_total",
      "K and V bytes sent to a tenant's workers.", {{"tenant", tenant}});
  series.prefix_tokens_asked = metrics->AddCounter(
      "forecache_store_tenant_prefix_tokens_asked_total",
      "Tokens of a tenant's prompts.", {{"tenant", tenant}});
  series.prefix_tokens_hit = metrics->AddCounter(
      "forecache_store_tenant_prefix_tokens_hit_total",
      "Tokens of a tenant's prompts that were held.", {{"tenant", tenant}});
  series.segments_evicted = metrics->AddCounter(
      "forecache_store_tenant_segments_evicted_total",
      "A tenant's segments that were evicted.", {{"tenant", tenant}});
  for (const auto& [tier, name] : {std::pair{StorageTier::kDram, "dram"},
                                   std::pair{StorageTier::kSsd, "ssd"}}) {
    series.held_bytes[static_cast<int>(tier)] = metrics->AddGauge(
        "forecache_store_tenant_held_bytes", "Bytes that a tenant holds.",
        {{"tenant", tenant}, {"tier", name}});
  }
  return series;
}

}  // namespace

TenantMetrics::Series& TenantMetrics::Of(TenantId tenant) {
  absl::MutexLock lock(&mu_);
  auto found = of_.find(tenant);
  if (found != of_.end()) return *found->second;
  std::string name = tenants_->NameOf(tenant);
  if (of_.size() >= kTenantsExported) name = kOtherTenants;
  auto at = series_.find(name);
  if (at == series_.end()) {
    at = series_.emplace(name, MakeSeries(metrics_, name)).first;
  }
  // Tenants of "other" are not remembered: there may be many.
  if (name != kOtherTenants) of_.emplace(tenant, &at->second);
  return at->second;
}

void TenantMetrics::Update() {
  std::unordered_map<Series*, size_t> held[kStorageTiers];
  for (const TenantId tenant : tenants_->Names()) {
    Series& series = Of(tenant);
    const auto account = tenants_->AccountOf(tenant);
    for (int tier = 0; tier < kStorageTiers; ++tier) {
      held[tier][&series] += account->held(static_cast<StorageTier>(tier));
    }
  }
  for (int tier = 0; tier < kStorageTiers; ++tier) {
    for (const auto& [series, bytes] : held[tier]) {
      series->held_bytes[tier]->Set(static_cast<double>(bytes));
    }
  }
}

}  // namespace forecache
