// Which HELLOs a store's data plane may take.
#ifndef FORECACHE_KVSTORE_TENANTS_HELLO_GRANTS_H_
#define FORECACHE_KVSTORE_TENANTS_HELLO_GRANTS_H_

#include <cstdint>
#include <deque>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "kvstore/hello.h"
#include "kvstore/tenants/tenant.h"

namespace forecache {

// Grants that were given and not used yet.  Each is good for one HELLO within
// kHelloGrantTimeout, so a HELLO that is heard twice is worth nothing.
//
// Threads: safe to call from any thread.
// Lifetime: the clock, which must be monotonic, outlives it.
class HelloGrants {
 public:
  explicit HelloGrants(Clock* clock) : clock_(clock) {}

  // kResourceExhausted when the tenant was given kHelloGrantsMax within
  // kHelloGrantTimeout.
  absl::StatusOr<HelloGrant> Give(TenantId tenant) ABSL_LOCKS_EXCLUDED(mu_);

  // Takes the grant that a HELLO names.  Returns whose it was, or
  // kUnauthenticated: unknown, used, expired or not proven; which of them is
  // not told.
  absl::StatusOr<TenantId> Redeem(const wire::WireHeader& header,
                                  const wire::HelloProof& proof)
      ABSL_LOCKS_EXCLUDED(mu_);

  // A tenant was removed: its grants go.
  void Revoke(TenantId tenant) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Given {
    HelloGrant grant;
    TenantId tenant = kDefaultTenant;
  };

  void ForgetExpired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Clock* const clock_;
  absl::Mutex mu_;
  std::unordered_map<uint64_t, Given> given_ ABSL_GUARDED_BY(mu_);
  // All that were given, used or not, in the order in which they expire, and
  // how many of them are whose.
  struct Expiry {
    Nanos until;
    uint64_t id;
    TenantId tenant;
  };
  std::deque<Expiry> recent_ ABSL_GUARDED_BY(mu_);
  std::unordered_map<TenantId, int> recent_of_ ABSL_GUARDED_BY(mu_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TENANTS_HELLO_GRANTS_H_
