#include "kvstore/tenants/hello_grants.h"

#include <span>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "kvstore/secret.h"

namespace forecache {

absl::StatusOr<HelloGrant> HelloGrants::Give(TenantId tenant) {
  absl::MutexLock lock(&mu_);
  ForgetExpired();
  if (recent_of_[tenant] >= kHelloGrantsMax) {
    return absl::ResourceExhaustedError(
        absl::StrCat("attach: ", kHelloGrantsMax, " within ",
                     kHelloGrantTimeout / kSecond,
                     " s, which is the limit of a tenant"));
  }
  Given given;
  do {
    FillRandom(std::as_writable_bytes(std::span(&given.grant.id, 1)));
  } while (given.grant.id == 0 || given_.contains(given.grant.id));
  FillRandom(std::as_writable_bytes(std::span(given.grant.key)));
  given.tenant = tenant;
  ++recent_of_[tenant];
  recent_.push_back(
      {clock_->Now() + kHelloGrantTimeout, given.grant.id, tenant});
  given_.emplace(given.grant.id, given);
  return given.grant;
}

absl::StatusOr<TenantId> HelloGrants::Redeem(const wire::WireHeader& header,
                                             const wire::HelloProof& proof) {
  absl::MutexLock lock(&mu_);
  ForgetExpired();
  auto found = given_.find(proof.grant);
  // A wrong proof leaves the grant to who can prove it: whoever sees a grant's
  // number must not be able to use it up.
  if (found == given_.end() ||
      !IsProof(found->second.grant, header, proof)) {
    return absl::UnauthenticatedError(
        "hello: not proven by an Attach that is recent and was not used");
  }
  const TenantId tenant = found->second.tenant;
  given_.erase(found);
  return tenant;
}

void HelloGrants::Revoke(TenantId tenant) {
  absl::MutexLock lock(&mu_);
  std::erase_if(given_, [&](const auto& entry) {
    return entry.second.tenant == tenant;
  });
}

void HelloGrants::ForgetExpired() {
  const Nanos now = clock_->Now();
  while (!recent_.empty() && recent_.front().until < now) {
    const Expiry& expired = recent_.front();
    given_.erase(expired.id);
    auto count = recent_of_.find(expired.tenant);
    if (--count->second == 0) recent_of_.erase(count);
    recent_.pop_front();
  }
}

}  // namespace forecache
