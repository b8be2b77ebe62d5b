// Whose turn it is where tenants share something by weights.
#ifndef FORECACHE_KVSTORE_TENANT_TURNS_H_
#define FORECACHE_KVSTORE_TENANT_TURNS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <unordered_map>

namespace forecache {

// The next turn is for the tenant, of those that want one, with the least used:
// what it was charged, over its share.  One that wanted nothing for a while
// begins where the others are, so that it neither saves turns up nor pays for
// what it had when it was alone.
//
// Threads: one thread.
class TenantTurns {
 public:
  double Used(uint32_t tenant) const {
    const auto found = used_.find(tenant);
    return found == used_.end() ? least_ : std::max(found->second, least_);
  }

  // `tenant`, which had the least used of those that want a turn, takes one.
  // REQUIRES: share > 0.
  void Charge(uint32_t tenant, double amount, double share) {
    least_ = Used(tenant);
    used_[tenant] = least_ + amount / share;
    if (used_.size() <= kKeptMax) return;
    std::erase_if(used_,
                  [this](const auto& one) { return one.second <= least_; });
  }

 private:
  // More are kept only while they are ahead of others.
  static constexpr size_t kKeptMax = 1024;

  std::unordered_map<uint32_t, double> used_;
  double least_ = 0;  // of the last turn
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TENANT_TURNS_H_
