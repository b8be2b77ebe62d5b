#include "kvstore/tenants/registry.h"

#include <numeric>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/status.h"

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
  tenant.account->SetQuota(StorageTier::kDram, {});
  tenant.account->SetQuota(StorageTier::kSsd, {});
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
  // Until it is configured.
  known_[id].account->SetQuota(StorageTier::kDram, {0, 0});
  known_[id].account->SetQuota(StorageTier::kSsd, {0, 0});
  handles_.emplace(name, id);
  return id;
}

absl::StatusOr<std::vector<TenantId>> TenantRegistry::Configure(
    const std::vector<TenantConfig>& configs) {
  absl::MutexLock lock(&mu_);
  std::unordered_map<std::string, TenantRef> fresh;
  // Domains first: tenants point to them.
  for (const bool domains : {true, false}) {
    for (const TenantConfig& config : configs) {
      if (config.is_domain != domains) continue;
      FC_ASSIGN_OR_RETURN(const TenantId id, InternLocked(config.name));
      auto tenant = std::make_shared<Tenant>();
      tenant->id = id;
      tenant->name = config.name;
      tenant->secret = config.secret;
      tenant->bandwidth_share = config.bandwidth_share;
      tenant->probe_share = config.probe_share;
      tenant->account = known_[id].account;
      tenant->is_domain = config.is_domain;
      tenant->token_sha256 = config.token_sha256;
      tenant->certificate_name = config.certificate_name;
      for (const std::string& name : config.writes) {
        tenant->domains.push_back({fresh.at(name), true});
      }
      for (const std::string& name : config.reads) {
        tenant->domains.push_back({fresh.at(name), false});
      }
      fresh.emplace(config.name, std::move(tenant));
    }
  }
  for (const TenantConfig& config : configs) {
    TenantAccount& account = *fresh.at(config.name)->account;
    account.SetQuota(StorageTier::kDram, config.quotas[0]);
    account.SetQuota(StorageTier::kSsd, config.quotas[1]);
  }
  std::vector<TenantId> ended;
  for (Known& known : known_) {
    auto found = fresh.find(known.name);
    TenantRef now = found == fresh.end() ? nullptr : found->second;
    if (known.tenant != nullptr &&
        (now == nullptr || now->secret.bytes != known.tenant->secret.bytes)) {
      ended.push_back(known.tenant->id);
    }
    if (now == nullptr) {
      // What it left is the first to go, and nothing is added.
      known.account->SetQuota(StorageTier::kDram, {0, 0});
      known.account->SetQuota(StorageTier::kSsd, {0, 0});
    }
    known.tenant = std::move(now);
  }
  return ended;
}

absl::StatusOr<TenantRef> TenantRegistry::Identify(const Credential& shown,
                                                   bool anonymous) const {
  const bool none = shown.token.empty() && shown.certificate_name.empty();
  const Sha256Digest hash = Sha256(std::as_bytes(std::span(shown.token)));
  absl::MutexLock lock(&mu_);
  if (none && anonymous && known_[kDefaultTenant].tenant != nullptr) {
    return known_[kDefaultTenant].tenant;
  }
  TenantRef by_token, by_certificate;
  for (const Known& known : known_) {
    const TenantRef& tenant = known.tenant;
    if (tenant == nullptr || tenant->is_domain) continue;
    if (!shown.token.empty() && tenant->token_sha256 &&
        SameSecret(std::as_bytes(std::span(hash)),
                   std::as_bytes(std::span(*tenant->token_sha256)))) {
      by_token = tenant;
    }
    if (!shown.certificate_name.empty() &&
        shown.certificate_name == tenant->certificate_name) {
      by_certificate = tenant;
    }
  }
  if (none) {
    return absl::UnauthenticatedError(
        "credentials: none; send a bearer token in the metadata "
        "'authorization', or a client certificate");
  }
  // One that is wrong is not mended by one that is right.
  if ((!shown.token.empty() && by_token == nullptr) ||
      (by_token != nullptr && by_certificate != nullptr &&
       by_token != by_certificate)) {
    return absl::UnauthenticatedError("credentials: not those of a tenant");
  }
  if (by_token == nullptr) by_token = by_certificate;
  if (by_token != nullptr) return by_token;
  return absl::UnauthenticatedError("credentials: not those of a tenant");
}

std::vector<TenantId> TenantRegistry::Names() const {
  absl::MutexLock lock(&mu_);
  std::vector<TenantId> ids(known_.size());
  std::iota(ids.begin(), ids.end(), TenantId{0});
  return ids;
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
