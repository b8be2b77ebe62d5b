#include "kvstore/tenants/registry.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/limits.h"

namespace forecache {

TenantRegistry::TenantRegistry(const TenantSecret& default_secret) {
  absl::MutexLock lock(&mu_);
  const auto id = InternLocked(kDefaultTenantName);
  FC_CHECK(id.ok() && *id == kDefaultTenant);
  Tenant tenant;
  tenant.id = kDefaultTenant;
  tenant.name = kDefaultTenantName;
  tenant.secret = default_secret;
  tenant.account = known_[kDefaultTenant].account;
  known_[kDefaultTenant].tenant =
      std::make_shared<const Tenant>(std::move(tenant));
}

absl::StatusOr<TenantId> TenantRegistry::Intern(const std::string& name) {
  absl::MutexLock lock(&mu_);
  return InternLocked(name);
}

absl::StatusOr<TenantId> TenantRegistry::InternLocked(
    const std::string& name) {
  auto found = handles_.find(name);
  if (found != handles_.end()) return found->second;
  if (known_.size() >= kTenantNamesMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("tenants: ", kTenantNamesMax,
                     " names were seen since the start, which is the limit"));
  }
  const TenantId id = static_cast<TenantId>(known_.size());
  known_.push_back({name, std::make_shared<TenantAccount>(), nullptr});
  handles_.emplace(name, id);
  return id;
}

std::string TenantRegistry::NameOf(TenantId id) const {
  absl::MutexLock lock(&mu_);
  FC_CHECK(id < known_.size()) << id;
  return known_[id].name;
}

std::shared_ptr<TenantAccount> TenantRegistry::AccountOf(TenantId id) const {
  absl::MutexLock lock(&mu_);
  FC_CHECK(id < known_.size()) << id;
  return known_[id].account;
}

TenantRef TenantRegistry::Find(TenantId id) const {
  absl::MutexLock lock(&mu_);
  return id < known_.size() ? known_[id].tenant : nullptr;
}

}  // namespace forecache
