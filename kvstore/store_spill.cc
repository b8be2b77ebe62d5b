// The part of StoreCore that lets running sessions read from SSD what memory
// has no room for.
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "kvstore/store.h"

namespace forecache {

// The first segment of the session that was idle longest: what a context
// begins with is asked for least.
std::optional<Promotion> StoreCore::PickSpill(std::optional<TenantId> owner) {
  const Session* idle = nullptr;
  std::optional<Promotion> pick;
  sessions_.ForEach([&](Session* session) {
    if (idle != nullptr && idle->last_used <= session->last_used) return;
    for (size_t i = 0; i < session->segments->size(); ++i) {
      const SegmentRef& ref = (*session->segments)[i];
      // One that was dropped for its damage is the session's alone: it was
      // left by the index, or has a successor there, and cannot be let go.
      if (!ref.sealed() || ref.on_ssd || !ssd_index_.Contains(ref.pin->id) ||
          index_.Find(ref.pin->id) != ref.pin ||
          (owner && ref.pin->owner != *owner)) {
        continue;
      }
      idle = session;
      pick = Promotion{ref.pin->id, i};
      return;
    }
  });
  return pick;
}

bool StoreCore::SpillOne(std::optional<TenantId> owner) {
  if (ssd_ == nullptr) return false;
  std::optional<Promotion> pick;
  {
    absl::MutexLock lock(&mu_);
    pick = PickSpill(owner);
  }
  if (!pick) return false;
  auto view = ssd_->Pin(pick->id);
  if (!view.ok()) {
    LogWarning("ssd: a segment of a session stays in memory",
               {{"segment", pick->id.ToHex()},
                {"why", view.status().ToString()}});
    return false;
  }
  absl::MutexLock lock(&mu_);
  const Index::EntryRef entry = index_.Find(pick->id);
  const Index::EntryRef on_ssd = ssd_index_.Find(pick->id);
  if (entry == nullptr || on_ssd == nullptr) return true;  // gone meanwhile
  sessions_.ForEach([&](Session* session) {
    if (session->segments->size() <= pick->number ||
        (*session->segments)[pick->number].pin != entry) {
      return;
    }
    ssd_index_.Hold(on_ssd);
    index_.Unpin(entry);
    session->SetSegment(pick->number, {*view, nullptr, on_ssd, true});
  });
  if (entry->pins > 0) return true;
  index_.Erase(pick->id);
  FC_CHECK_OK(tier_->Drop(pick->id));
  metrics_.segments_demoted->Add();
  return true;
}

}  // namespace forecache
