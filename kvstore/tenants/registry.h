// The tenants of a store, as they are configured now.
#ifndef FORECACHE_KVSTORE_TENANTS_REGISTRY_H_
#define FORECACHE_KVSTORE_TENANTS_REGISTRY_H_

#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kvstore/tenants/tenant.h"
#include "kvstore/tenants/tenants_file.h"

namespace forecache {

// What a caller showed to say who it is.
//
// Threads: a value.
struct Credential {
  std::string token;             // without "Bearer "; empty: none
  std::string certificate_name;  // of a certificate that TLS verified
};

// Names and handles, both ways.  A name keeps its handle and its account while
// the process lives, whether the tenant is configured, removed or back again.
//
// Threads: safe to call from any thread.
class TenantRegistry {
 public:
  // One tenant, "default", that may take everything.
  explicit TenantRegistry(const TenantSecret& default_secret);

  // The handle of a name, configured or not: records on a disk keep names.
  // kResourceExhausted past kTenantNamesMax.
  absl::StatusOr<TenantId> Intern(const std::string& name)
      ABSL_LOCKS_EXCLUDED(mu_);
  // REQUIRES: a handle of this registry.
  std::string NameOf(TenantId id) const ABSL_LOCKS_EXCLUDED(mu_);
  // Whatever becomes of the tenant, its account stays.
  std::shared_ptr<TenantAccount> AccountOf(TenantId id) const
      ABSL_LOCKS_EXCLUDED(mu_);

  // From now on these are the tenants.  Returns those whose sessions must end:
  // removed ones, and those whose secret is another.  On an error nothing
  // changed.
  absl::StatusOr<std::vector<TenantId>> Configure(
      const std::vector<TenantConfig>& configs) ABSL_LOCKS_EXCLUDED(mu_);

  // Whose the credential is.  kUnauthenticated when it is nobody's, or none
  // was shown; `anonymous`: who shows none is the tenant "default".  Takes a
  // time that does not depend on which tenant it is.
  absl::StatusOr<TenantRef> Identify(const Credential& shown,
                                     bool anonymous) const
      ABSL_LOCKS_EXCLUDED(mu_);

  // All handles whose names are known, configured or not.
  std::vector<TenantId> Names() const ABSL_LOCKS_EXCLUDED(mu_);

  // Null when it is not configured now.
  TenantRef Find(TenantId id) const ABSL_LOCKS_EXCLUDED(mu_);

 private:
  struct Known {
    std::string name;
    std::shared_ptr<TenantAccount> account;
    TenantRef tenant;  // null: not configured
  };

  absl::StatusOr<TenantId> InternLocked(const std::string& name)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  std::vector<Known> known_ ABSL_GUARDED_BY(mu_);  // by handle
  std::unordered_map<std::string, TenantId> handles_ ABSL_GUARDED_BY(mu_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TENANTS_REGISTRY_H_
