// What one tenant holds, in bytes, by tier.
#ifndef FORECACHE_KVSTORE_TENANTS_ACCOUNT_H_
#define FORECACHE_KVSTORE_TENANTS_ACCOUNT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "common/check.h"

namespace forecache {

enum class StorageTier { kDram = 0, kSsd = 1 };
inline constexpr int kStorageTiers = 2;

inline constexpr size_t kNoCeiling = SIZE_MAX;

// What a tenant may count on in a tier, and what it may take.
//
// Threads: a value.
struct TierQuota {
  size_t floor_bytes = 0;  // never taken from it for another
  size_t ceiling_bytes = kNoCeiling;
  bool operator==(const TierQuota&) const = default;
};

// Bytes are charged by whoever allocates them and credited by whoever frees
// them, so a sum that is wrong is a leak.  It outlives the tenant's entry in
// the configuration: what a removed tenant left behind is still counted.
//
// Threads: safe to call from any thread.
class TenantAccount {
 public:
  // False, and nothing charged, when that would pass the ceiling.
  bool TryCharge(StorageTier tier, size_t bytes) {
    Ledger& ledger = ledgers_[static_cast<int>(tier)];
    size_t held = ledger.held.load(std::memory_order_relaxed);
    do {
      const size_t ceiling = ledger.ceiling.load(std::memory_order_relaxed);
      if (held > ceiling || bytes > ceiling - held) return false;
    } while (!ledger.held.compare_exchange_weak(held, held + bytes));
    return true;
  }
  // Charged whatever the ceiling: what was found after a restart, or moves
  // from one account to another.
  void Charge(StorageTier tier, size_t bytes) {
    ledgers_[static_cast<int>(tier)].held.fetch_add(bytes);
  }
  void Credit(StorageTier tier, size_t bytes) {
    const size_t before =
        ledgers_[static_cast<int>(tier)].held.fetch_sub(bytes);
    FC_CHECK(before >= bytes) << before << " bytes held, " << bytes << " freed";
  }

  size_t held(StorageTier tier) const {
    return ledgers_[static_cast<int>(tier)].held.load();
  }
  TierQuota quota(StorageTier tier) const {
    const Ledger& ledger = ledgers_[static_cast<int>(tier)];
    return {ledger.floor.load(), ledger.ceiling.load()};
  }
  // Holds from now on; what is held already stays.
  void SetQuota(StorageTier tier, const TierQuota& quota) {
    Ledger& ledger = ledgers_[static_cast<int>(tier)];
    ledger.floor = quota.floor_bytes;
    ledger.ceiling = quota.ceiling_bytes;
  }

 private:
  struct Ledger {
    std::atomic<size_t> held{0};
    std::atomic<size_t> floor{0};
    std::atomic<size_t> ceiling{kNoCeiling};
  };
  Ledger ledgers_[kStorageTiers];
};

// What something holds of an account; given back when it goes.
//
// Threads: one at a time; its owner locks.
class TierCharge {
 public:
  TierCharge() = default;
  TierCharge(std::shared_ptr<TenantAccount> account, StorageTier tier)
      : account_(std::move(account)), tier_(tier) {}
  TierCharge(TierCharge&& other) noexcept { *this = std::move(other); }
  TierCharge& operator=(TierCharge&& other) noexcept {
    std::swap(account_, other.account_);
    std::swap(tier_, other.tier_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~TierCharge() {
    if (account_ != nullptr) account_->Credit(tier_, bytes_);
  }

  // False when the account's ceiling is in the way.  REQUIRES: an account.
  bool TryGrow(size_t bytes) {
    if (!account_->TryCharge(tier_, bytes)) return false;
    bytes_ += bytes;
    return true;
  }
  void Shrink(size_t bytes) {
    FC_CHECK(bytes <= bytes_) << bytes;
    account_->Credit(tier_, bytes);
    bytes_ -= bytes;
  }
  size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<TenantAccount> account_;
  StorageTier tier_ = StorageTier::kDram;
  size_t bytes_ = 0;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TENANTS_ACCOUNT_H_
