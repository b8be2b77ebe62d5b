// The part of StoreCore that writes sealed segments to SSD.
#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "common/status.h"
#include "kvstore/store.h"

namespace forecache {
namespace {

constexpr Nanos kGateStep = 200 * kMicrosecond;
constexpr Nanos kGateStepMost = 10 * kMillisecond;

}  // namespace

void StoreCore::Demote(const Index::EntryRef& entry, SegmentOrigin origin,
                       std::shared_ptr<const SegmentView> view) {
  if (ssd_ == nullptr) return;
  if (!ssd_->CouldHold(*view)) {
    metrics_.demotions_skipped->Add();
    return;
  }
  if (!ssd_->writable() || work_.demotions.size() >= kSsdDemotionsMax) {
    return Defer(entry->id, std::move(origin));
  }
  index_.Hold(entry);
  work_.demotions.push_back({entry, std::move(origin), std::move(view)});
  ssd_work_.SignalAll();
}

void StoreCore::Defer(const SegmentId& id, SegmentOrigin origin) {
  if (work_.deferred.size() >= kSsdDeferredMax) {
    metrics_.demotions_skipped->Add();
    return;
  }
  metrics_.demotions_deferred->Add();
  work_.deferred.push_back({id, std::move(origin)});
}

bool StoreCore::ResumeDeferred() {
  absl::MutexLock lock(&mu_);
  if (!HasDeferred() || work_.demotions.size() >= kSsdDemotionsMax) {
    return false;
  }
  DeferredDemotion next = std::move(work_.deferred.front());
  work_.deferred.pop_front();
  const Index::EntryRef entry = index_.Find(next.id);
  if (entry == nullptr || ssd_index_.Contains(next.id)) return true;
  auto view = tier_->Pin(next.id);
  FC_CHECK_OK(view.status());  // the index and the tier change together
  Demote(entry, std::move(next.origin), *std::move(view));
  return true;
}

bool StoreCore::AwaitDemotion() {
  if (ssd_ == nullptr) return false;
  uint64_t written = 0;
  {
    absl::MutexLock lock(&mu_);
    if (!work_.writing && work_.demotions.empty()) return false;
    written = work_.written;
    if (options_.ssd.background) {
      ssd_progress_.WaitFor(&mu_, kSsdRoomWait);
      return work_.written != written;
    }
  }
  return WriteNext();
}

bool StoreCore::WriteNext() {
  Demotion demotion;
  {
    absl::MutexLock lock(&mu_);
    if (work_.demotions.empty()) return false;
    demotion = std::move(work_.demotions.front());
    work_.demotions.pop_front();
    work_.writing = true;
  }
  const absl::Status status = WriteDemotion(demotion);
  if (status.ok()) revive_wait_ = kSsdReviveWaitFirst;
  EndDemotion(std::move(demotion), status);
  return true;
}

absl::Status StoreCore::WriteDemotion(const Demotion& demotion) {
  Index::EntryRef parent;  // must not make room for its child
  {
    absl::MutexLock lock(&mu_);
    parent = ssd_index_.Find(demotion.origin.parent);
    if (parent != nullptr) ssd_index_.Hold(parent);
  }
  const size_t bytes = ssd_->BytesOf(*demotion.view);
  absl::Status status = MakeRoomOnSsd(demotion, bytes);
  if (status.ok()) {
    status = ssd_->Write(demotion.pin->id, demotion.origin, *demotion.view,
                         [this](size_t bytes) { return MayWrite(bytes); });
  }
  absl::MutexLock lock(&mu_);
  if (parent != nullptr) ssd_index_.Unpin(parent);
  if (status.ok()) {
    InsertOnSsd(demotion.pin->id, demotion.origin.parent, demotion.pin->owner,
                bytes, demotion.pin->worth);
  }
  return status;
}

void StoreCore::EndDemotion(Demotion demotion, const absl::Status& status) {
  const SegmentId id = demotion.pin->id;
  demotion.view = nullptr;
  if (status.ok()) {
    metrics_.demotions_written->Add();
  } else {
    metrics_.demotions_failed->Add();
    LogWarning("ssd: a segment was not written",
               {{"segment", id.ToHex()}, {"why", status.ToString()}});
  }
  absl::MutexLock lock(&mu_);
  index_.Unpin(demotion.pin);
  if (absl::IsDataLoss(status) && demotion.pin->held) {
    index_.Erase(id);
    FC_CHECK_OK(tier_->Drop(id));
    metrics_.segments_dropped->Add();
  }
  work_.writing = false;
  ++work_.written;
  if (!ssd_->writable()) {
    if (!absl::IsFailedPrecondition(status)) {  // that is known already
      LogError("ssd: the disk fails, nothing is written until it is well",
               {{"why", status.ToString()},
                {"next_try_s", revive_wait_ / kSecond}});
    }
    if (demotion.pin->held) Defer(id, std::move(demotion.origin));
    for (Demotion& waits : work_.demotions) {
      index_.Unpin(waits.pin);
      Defer(waits.pin->id, std::move(waits.origin));
    }
    work_.demotions.clear();
  }
  ssd_progress_.SignalAll();
}

absl::Status StoreCore::MakeRoomOnSsd(const Demotion& demotion, size_t bytes) {
  const TenantId owner = demotion.pin->owner;
  const auto account = tenants_.AccountOf(owner);
  const size_t ceiling = account->quota(StorageTier::kSsd).ceiling_bytes;
  while (ssd_->writable()) {
    const size_t held = account->held(StorageTier::kSsd);
    const bool at_ceiling = held > ceiling || bytes > ceiling - held;
    if (!at_ceiling && ssd_->HasRoomFor(*demotion.view)) break;
    if (EvictFromSsd(owner, at_ceiling)) continue;
    return absl::ResourceExhaustedError(
        at_ceiling ? "ssd: the tenant is at its ceiling"
                   : "ssd: all of it is in use, or others' floors");
  }
  return absl::OkStatus();
}

bool StoreCore::MayWrite(size_t bytes) {
  Nanos patience = kSsdLoadsFirst;
  for (;;) {
    if (stopping_) return false;
    const Nanos pace = write_pacer_.Wait(clock_->Now());
    if (pace > 0) {
      clock_->SleepFor(std::min(pace, kGateStepMost));
    } else if (ssd_->loads() > 0 && patience > 0) {
      clock_->SleepFor(kGateStep);
      patience -= kGateStep;
    } else {
      write_pacer_.Passed(bytes, clock_->Now());
      return true;
    }
  }
}

}  // namespace forecache
