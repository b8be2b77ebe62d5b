// The part of StoreCore that looks for damage on SSD.
#include "absl/status/status.h"
#include "common/log.h"
#include "kvstore/store.h"

namespace forecache {

bool StoreCore::ScrubNext() {
  if (scrub_pacer_.rate() == 0 || scrub_pacer_.Wait(clock_->Now()) > 0) {
    return false;
  }
  size_t bytes = 0;
  while (bytes < kSsdScrubStepBytes) {
    if (scrub_ids_.empty()) {
      scrub_ids_ = ssd_->Ids();
      scrub_plane_ = 0;
      if (bytes > 0 || scrub_ids_.empty()) break;
    }
    const SegmentId id = scrub_ids_.back();
    const absl::Status status = ssd_->CheckPlane(id, scrub_plane_++, &bytes);
    if (status.ok()) continue;
    scrub_ids_.pop_back();
    scrub_plane_ = 0;
    if (absl::IsOutOfRange(status) || absl::IsNotFound(status)) continue;
    metrics_.scrub_findings->Add();
    LogWarning("ssd: the scrubber found damage",
               {{"segment", id.ToHex()}, {"why", status.ToString()}});
    Index::EntryRef entry;
    {
      absl::MutexLock lock(&mu_);
      entry = ssd_index_.Find(id);
    }
    if (entry != nullptr && DropFromSsd(entry)) {
      metrics_.segments_dropped->Add();
    }
  }
  metrics_.scrubbed_bytes->Add(bytes);
  // With nothing to read it looks again in a second.
  scrub_pacer_.Passed(bytes > 0 ? bytes : scrub_pacer_.rate(), clock_->Now());
  return bytes > 0;
}

}  // namespace forecache
