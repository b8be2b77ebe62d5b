// Tenants: whose segments and sessions they are.
#ifndef FORECACHE_KVSTORE_TENANTS_TENANT_H_
#define FORECACHE_KVSTORE_TENANTS_TENANT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kvstore/secret.h"
#include "kvstore/segment_id.h"
#include "kvstore/tenants/account.h"

namespace forecache {

// Stands for a tenant's name within this process.  What outlives the process
// keeps the name: see TenantRegistry::Intern.
using TenantId = uint32_t;
// Whose everything is where nobody configured tenants, or showed who it is.
inline constexpr TenantId kDefaultTenant = 0;
inline constexpr char kDefaultTenantName[] = "default";
// The metrics' label of those that are not exported by name.
inline constexpr char kOtherTenants[] = "other";

// A tenant as it is configured now.  A sharing domain is one, too, without a
// credential: what is sealed in it has its own secret, floor and ceiling.
//
// Threads: a value; never changed once a TenantRef points to it.
struct Tenant {
  TenantId id = kDefaultTenant;
  std::string name;
  TenantSecret secret;
  // Parts of what tenants share, relative to each other's.
  int bandwidth_share = 1;
  int probe_share = 1;
  std::shared_ptr<TenantAccount> account;

  bool is_domain = false;
  // What shows that a caller is this tenant: the hash of its bearer token, the
  // common name of its certificate.
  std::optional<Sha256Digest> token_sha256;
  std::string certificate_name;
  // Domains in which it may find segments, and those that it may add to.
  struct Access {
    std::shared_ptr<const Tenant> domain;
    bool may_write = false;
  };
  std::vector<Access> domains;
};
using TenantRef = std::shared_ptr<const Tenant>;

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TENANTS_TENANT_H_
