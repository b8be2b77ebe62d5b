// The part of StoreCore that keeps tenants apart: their configuration, their
// domains, and whose memory goes when there is too little.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/log.h"
#include "common/status.h"
#include "kvstore/store.h"

namespace forecache {

absl::StatusOr<std::vector<TenantId>> StoreCore::ConfigureTenants(
    const std::vector<TenantConfig>& configs) {
  size_t floors = 0;
  for (const TenantConfig& config : configs) {
    const TierQuota& dram = config.quotas[int(StorageTier::kDram)];
    floors += std::min(dram.floor_bytes, arena_->capacity_bytes() + 1);
  }
  if (floors > arena_->capacity_bytes()) {
    return absl::InvalidArgumentError(
        absl::StrCat("dram.floor_bytes: the floors of all tenants are ", floors,
                     " bytes or more, this store has ",
                     arena_->capacity_bytes()));
  }
  FC_ASSIGN_OR_RETURN(const std::vector<TenantId> ended,
                      tenants_.Configure(configs));
  absl::MutexLock lock(&mu_);
  sessions_.ForEach([&](Session* session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    const Tenant& before = *session->tenant;
    const bool domain_ended =
        session->domain != nullptr &&
        std::ranges::count(ended, session->domain->id) > 0;
    if (!domain_ended && std::ranges::count(ended, before.id) == 0) {
      TenantRef now = tenants_.Find(before.id);
      if (now != nullptr) session->tenant = std::move(now);
    } else if (session->ended.ok()) {
      session->ended = absl::PermissionDeniedError(
          absl::StrCat("tenant: ", before.name, ", or its domain, was removed "
                       "or has another secret now"));
      *session->revoked = true;
      EndSession(session);
      LogWarning("session ended: its tenant was removed",
                 {{"session", session->id},
                  {"tenant", before.name},
                  {"request", session->request_id}});
    }
  });
  return ended;
}

absl::Status StoreCore::SetDomain(const Tenant& tenant,
                                  const OpenOptions& options,
                                  Session* session) const {
  if (options.domain.empty()) return absl::OkStatus();
  for (const Tenant::Access& access : tenant.domains) {
    if (access.domain->name != options.domain) continue;
    session->domain = access.domain;
    session->domain_segments = options.domain_tokens / kSegmentTokens;
    session->may_add_to_domain = access.may_write;
    return absl::OkStatus();  // `writes` come first
  }
  return absl::PermissionDeniedError(absl::StrCat(
      "domain: '", options.domain, "' is none of this tenant's"));
}

void StoreCore::LimitDomain(Session* session,
                            std::span<const uint32_t> prompt) {
  if (session->domain == nullptr || session->may_add_to_domain) return;
  const size_t named = std::min(session->domain_segments,
                                session->chain.size());
  size_t held = LongestPrefix(std::span(session->chain).first(named));
  // With other stores behind the same context, a gap is no end.
  for (size_t i = held; session->scattered && i < named; ++i) {
    if (Holds(session->chain[i])) held = i + 1;
  }
  if (held == session->domain_segments) return;
  session->domain_segments = held;
  session->NameSegments(prompt, held);
}

Index::EntryRef StoreCore::PickVictim(TenantId owner, bool own_only) {
  if (own_only) {
    return index_.Victim([&](uint32_t id) { return id == owner; });
  }
  const auto held = [this](TenantId id) {
    return tenants_.AccountOf(id)->held(StorageTier::kDram);
  };
  const auto quota = [this](TenantId id) {
    return tenants_.AccountOf(id)->quota(StorageTier::kDram);
  };
  // First of those that have more than they may: a ceiling that came down, or
  // a tenant that is no more.
  Index::EntryRef victim = index_.Victim([&](uint32_t id) {
    return held(id) > quota(id).ceiling_bytes;
  });
  if (victim != nullptr) return victim;
  std::set<TenantId> spared;  // that would fall below their floors
  // Up to its floor a tenant takes from others before it gives of its own.
  bool with_own = held(owner) > quota(owner).floor_bytes;
  for (;;) {
    victim = index_.Victim([&](uint32_t id) {
      if (id == owner) return with_own;
      return !spared.contains(id) && held(id) > quota(id).floor_bytes;
    });
    if (victim == nullptr) {
      if (with_own) return nullptr;
      with_own = true;
      continue;
    }
    if (victim->owner == owner) return victim;
    const size_t left = held(victim->owner) - victim->bytes;
    if (left >= quota(victim->owner).floor_bytes) return victim;
    spared.insert(victim->owner);
  }
}

bool StoreCore::EvictOne(TenantId owner, bool own_only) {
  absl::MutexLock lock(&mu_);
  const Index::EntryRef victim = PickVictim(owner, own_only);
  if (victim == nullptr) return false;
  index_.Erase(victim->id);
  FC_CHECK_OK(tier_->Drop(victim->id));
  if (ssd_index_.Contains(victim->id)) {
    metrics_.segments_demoted->Add();
    return true;
  }
  metrics_.segments_evicted->Add();
  tenant_metrics_.Of(victim->owner).segments_evicted->Add();
  return true;
}

absl::StatusOr<bool> StoreCore::MakeRoom(TenantId owner, bool own_only,
                                         RoomWait wait) {
  if (EvictOne(owner, own_only)) return true;
  if (ssd_ == nullptr) return false;
  if (wait == RoomWait::kNone) {
    return absl::UnavailableError("dram: room has to be waited for");
  }
  return SpillOne(own_only ? std::optional(owner) : std::nullopt) ||
         AwaitDemotion();
}

absl::Status StoreCore::MakeRoomFor(
    const Tenant& owner, size_t bytes, RoomWait wait, TierCharge* charge,
    const std::function<absl::Status()>& allocate) {
  const size_t pages = (bytes + DramArena::kPageBytes - 1) /
                       DramArena::kPageBytes * DramArena::kPageBytes;
  while (!charge->TryGrow(pages)) {
    FC_ASSIGN_OR_RETURN(const bool made,
                        MakeRoom(owner.id, /*own_only=*/true, wait));
    if (made) continue;
    return absl::ResourceExhaustedError(absl::StrCat(
        "dram: tenant ", owner.name, " has ",
        owner.account->held(StorageTier::kDram), " bytes, its ceiling is ",
        owner.account->quota(StorageTier::kDram).ceiling_bytes,
        " and nothing of its own may go"));
  }
  for (;;) {
    absl::Status status = allocate();
    if (status.ok()) return status;
    absl::StatusOr<bool> made = false;
    if (absl::IsResourceExhausted(status)) {
      made = MakeRoom(owner.id, /*own_only=*/false, wait);
      if (made.value_or(false)) continue;
    }
    charge->Shrink(pages);
    if (!made.ok()) return made.status();
    if (!absl::IsResourceExhausted(status)) return status;
    return absl::ResourceExhaustedError(absl::StrCat(
        "dram: ", arena_->used_bytes(), " of ", arena_->capacity_bytes(),
        " bytes are in use and all of it is pinned, or others' floors (",
        status.message(), ")"));
  }
}

}  // namespace forecache
