// Tenants: whose segments and sessions they are.
#ifndef FORECACHE_KVSTORE_TENANTS_TENANT_H_
#define FORECACHE_KVSTORE_TENANTS_TENANT_H_

#include <cstdint>
#include <memory>
#include <string>

#include "kvstore/segment_id.h"
#include "kvstore/tenants/account.h"

namespace forecache {

// Stands for a tenant's name within this process.  What outlives the process
// keeps the name: see TenantRegistry::Intern.
using TenantId = uint32_t;
// Whose everything is where nobody configured tenants.
inline constexpr TenantId kDefaultTenant = 0;
inline constexpr char kDefaultTenantName[] = "default";

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
};
using TenantRef = std::shared_ptr<const Tenant>;

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TENANTS_TENANT_H_
