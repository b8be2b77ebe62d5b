// The part of StoreCore that finds segments on SSD, and works on the tiers.
#include <pthread.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/log.h"
#include "common/status.h"
#include "kvstore/chain_numbers.h"
#include "kvstore/eviction/recompute_cost.h"
#include "kvstore/store.h"

namespace forecache {
namespace {

constexpr Nanos kLeastSleep = 200 * kMicrosecond;

}  // namespace

absl::Status StoreCore::OpenSsd(std::unique_ptr<Disk> disk, Metrics* metrics) {
  auto opened = SsdTier::Open(options_.ssd.tier, std::move(disk),
                              arena_.get(), metrics);
  if (!opened.ok()) return Annotate(opened.status(), "ssd");
  ssd_ = *std::move(opened);
  {
    absl::MutexLock lock(&mu_);
    const std::vector<FoundSegment> segments = ssd_->TakeFound();
    ChainNumbers numbers;
    for (const FoundSegment& found : segments) {
      numbers.Add(found.id, found.origin.parent);
    }
    for (const FoundSegment& found : segments) {
      FC_ASSIGN_OR_RETURN(TenantId owner,
                          tenants_.Intern(found.origin.tenant));
      InsertOnSsd(found.id, found.origin.parent, owner, found.bytes,
                  WorthOf(found.geometry, numbers.Of(found.id), found.bytes));
    }
  }
  if (options_.ssd.background) {
    ssd_thread_ = std::thread([this] { SsdLoop(); });
  }
  return absl::OkStatus();
}

bool StoreCore::Holds(const SegmentId& id) const {
  return index_.Contains(id) || ssd_index_.Contains(id);
}

size_t StoreCore::LongestPrefix(std::span<const SegmentId> ids) const {
  size_t held = 0;
  while (held < ids.size() && Holds(ids[held])) ++held;
  return held;
}

SegmentTable StoreCore::PinHeld(std::span<const SegmentId> ids) {
  SegmentTable table;
  // From the end: what comes first is then used last, and evicted last.
  for (size_t i = ids.size(); i-- > 0;) {
    Index::EntryRef on_ssd = ssd_index_.Pin(ids[i]);
    if (on_ssd != nullptr && work_.touched.size() < kSsdTouchedMax) {
      work_.touched.push_back(ids[i]);
    }
    SegmentRef ref;
    ref.pin = index_.Pin(ids[i]);
    if (ref.pin != nullptr) {
      auto view = tier_->Pin(ids[i]);
      FC_CHECK_OK(view.status());  // the index and the tier change together
      ref.view = *std::move(view);
      if (on_ssd != nullptr) ssd_index_.Unpin(on_ssd);
    } else if (on_ssd != nullptr) {
      ref.pin = std::move(on_ssd);
      ref.on_ssd = true;
    } else {
      continue;
    }
    if (table.size() <= i) table.resize(i + 1);
    table[i] = std::move(ref);
  }
  return table;
}

void StoreCore::Unpin(const SegmentRef& ref) {
  if (ref.sealed()) (ref.on_ssd ? ssd_index_ : index_).Unpin(ref.pin);
}

void StoreCore::LoadPinned(TenantId tenant, bool scattered,
                           SegmentTable* table) {
  std::vector<Promotion> promotions;
  for (size_t i = 0; i < table->size(); ++i) {
    SegmentRef& ref = (*table)[i];
    if (!ref.on_ssd) continue;
    const SegmentId id = ref.pin->id;
    absl::Status loaded;
    do {
      auto view = ssd_->Pin(id);
      loaded = view.status();
      if (view.ok()) ref.view = *std::move(view);
    } while (absl::IsResourceExhausted(loaded) &&
             MakeRoom(tenant, /*own_only=*/false, RoomWait::kForSsd)
                 .value_or(false));
    if (loaded.ok()) {
      promotions.push_back({id, i});
      continue;
    }
    LogWarning("ssd: a segment cannot be had",
               {{"segment", id.ToHex()}, {"why", loaded.ToString()}});
    // No memory for it now is no fault of its own.
    if (!absl::IsResourceExhausted(loaded) && DropFromSsd(ref.pin)) {
      metrics_.segments_dropped->Add();
    }
    absl::MutexLock lock(&mu_);
    const size_t end = scattered ? i + 1 : table->size();
    for (size_t lost = i; lost < end; ++lost) {
      Unpin((*table)[lost]);
      (*table)[lost] = SegmentRef();
    }
    if (!scattered) table->resize(i);
  }
  if (promotions.empty()) return;
  absl::MutexLock lock(&mu_);
  for (const Promotion& promotion : promotions) {
    if (work_.promotions.size() >= kSsdPromotionsMax) break;
    work_.promotions.push_back(promotion);
  }
  ssd_work_.SignalAll();
}

bool StoreCore::AwaitDurable(const SegmentId& id) {
  absl::MutexLock lock(&mu_);
  if (ssd_ == nullptr) return false;
  // By the machine's clock, whatever the store's: a thread waits.
  ssd_progress_.AwaitFor(
      &mu_, kSsdDurableWait, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        const bool waits =
            work_.writing ||
            std::ranges::any_of(work_.demotions, [&](auto& next) {
              return next.pin->id == id;
            });
        return ssd_index_.Contains(id) || !waits || !options_.ssd.background;
      });
  return ssd_index_.Contains(id);
}

bool StoreCore::FlushSsd(Nanos timeout) {
  while (!options_.ssd.background && (WriteNext() || ResumeDeferred())) {
  }
  absl::MutexLock lock(&mu_);
  return ssd_progress_.AwaitFor(
      &mu_, timeout, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
        return !work_.writing && work_.demotions.empty() && !HasDeferred();
      });
}

void StoreCore::SsdLoop() {
  pthread_setname_np(pthread_self(), "ssd");
  while (!stopping_) {
    if (RunSsd()) continue;
    const Nanos now = clock_->Now();
    Nanos wait = kSsdIdleWait;
    if (scrub_pacer_.rate() > 0) wait = scrub_pacer_.Wait(now);
    absl::MutexLock lock(&mu_);
    if (work_.stop || !work_.demotions.empty()) continue;
    if (!work_.promotions.empty()) {
      wait = std::min(wait, promote_pacer_.Wait(now));
    }
    wait = std::clamp(wait, kLeastSleep, kSsdIdleWait);
    ssd_work_.WaitFor(&mu_, wait);
  }
}

bool StoreCore::RunSsd() {
  return ssd_ != nullptr &&
         (ReviveSsd() || WriteNext() || ResumeDeferred() || PromoteNext() ||
          NoteUses() || ScrubNext());
}

bool StoreCore::ReviveSsd() {
  if (ssd_->writable()) return false;
  const Nanos now = clock_->Now();
  if (revive_due_ == 0) revive_due_ = now + revive_wait_;
  if (now < revive_due_) return false;
  revive_due_ = 0;
  revive_wait_ = std::min(2 * revive_wait_, kSsdReviveWaitMost);
  const absl::Status revived = ssd_->Revive();
  if (revived.ok()) {
    metrics_.ssd_revivals->Add();
    LogInfo("ssd: segments are written again");
  } else {
    metrics_.ssd_revivals_failed->Add();
    LogWarning("ssd: the disk still fails",
               {{"why", revived.ToString()},
                {"next_try_s", revive_wait_ / kSecond}});
  }
  return true;
}

void StoreCore::InsertOnSsd(const SegmentId& id, const SegmentId& parent,
                            TenantId owner, size_t bytes, float worth) {
  tenants_.AccountOf(owner)->Charge(StorageTier::kSsd, bytes);
  ssd_index_.Unpin(ssd_index_.Insert(id, parent, owner, bytes, worth));
}

void StoreCore::EraseOnSsd(const Index::EntryRef& entry) {
  tenants_.AccountOf(entry->owner)->Credit(StorageTier::kSsd, entry->bytes);
  ssd_index_.Erase(entry->id);
}

bool StoreCore::EvictFromSsd(TenantId owner, bool own_only) {
  Index::EntryRef victim;
  {
    absl::MutexLock lock(&mu_);
    victim = ssd_index_.Victim([&](uint32_t id) {
      const auto account = tenants_.AccountOf(id);
      return id == owner ||
             (!own_only && account->held(StorageTier::kSsd) >
                               account->quota(StorageTier::kSsd).floor_bytes);
    });
    if (victim == nullptr) return false;
    EraseOnSsd(victim);
    metrics_.ssd_segments_evicted->Add();
    if (!index_.Contains(victim->id)) {
      metrics_.segments_evicted->Add();
      tenant_metrics_.Of(victim->owner).segments_evicted->Add();
    }
  }
  return ssd_->Drop(victim->id).ok();
}

bool StoreCore::DropFromSsd(const Index::EntryRef& entry) {
  {
    absl::MutexLock lock(&mu_);
    if (!entry->held) return false;
    EraseOnSsd(entry);
  }
  absl::Status dropped = ssd_->Drop(entry->id);
  if (!dropped.ok()) {
    LogWarning("ssd: a record was not forgotten",
               {{"segment", entry->id.ToHex()}, {"why", dropped.ToString()}});
  }
  return true;
}

bool StoreCore::NoteUses() {
  std::vector<SegmentId> touched;
  {
    absl::MutexLock lock(&mu_);
    touched.swap(work_.touched);
  }
  ssd_->Touch(touched);
  return !touched.empty();
}

}  // namespace forecache
