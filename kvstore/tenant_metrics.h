// What a store counts of each tenant.  Rows in docs/METRICS.md.
#ifndef FORECACHE_KVSTORE_TENANT_METRICS_H_
#define FORECACHE_KVSTORE_TENANT_METRICS_H_

#include <string>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/metrics.h"
#include "kvstore/tenants/registry.h"

namespace forecache {

// The first kTenantsExported tenants that are seen have series of their own,
// all others share those of "other": so a label's values stay few.
//
// Threads: safe to call from any thread.
// Lifetime: the Metrics and the registry outlive it.
class TenantMetrics {
 public:
  struct Series {
    Counter* pushed_bytes;
    Counter* prefix_tokens_asked;
    Counter* prefix_tokens_hit;
    Counter* segments_evicted;
    Gauge* held_bytes[kStorageTiers];
  };

  TenantMetrics(Metrics* metrics, const TenantRegistry* tenants)
      : metrics_(metrics), tenants_(tenants) {}

  Series& Of(TenantId tenant) ABSL_LOCKS_EXCLUDED(mu_);
  // Brings the gauges up to date.
  void Update() ABSL_LOCKS_EXCLUDED(mu_);

 private:
  Metrics* const metrics_;
  const TenantRegistry* const tenants_;
  absl::Mutex mu_;
  // Pointers to an element stay good.
  std::unordered_map<std::string, Series> series_ ABSL_GUARDED_BY(mu_);
  std::unordered_map<TenantId, Series*> of_ ABSL_GUARDED_BY(mu_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TENANT_METRICS_H_
