#include "kvstore/dram_tier.h"

#include <atomic>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace forecache {

// A segment and its share of the accounts.  The tier owns one, and each pin.
struct DramTier::Held {
  Held(std::shared_ptr<Segment> segment,
       std::shared_ptr<std::atomic<size_t>> used)
      : segment(std::move(segment)), used(std::move(used)) {
    *this->used += this->segment->bytes();
  }
  ~Held() { *used -= segment->bytes(); }

  const std::shared_ptr<Segment> segment;
  const std::shared_ptr<std::atomic<size_t>> used;
};

DramTier::DramTier(const DramArena* arena)
    : arena_(arena), used_(std::make_shared<std::atomic<size_t>>(0)) {}

DramTier::~DramTier() = default;

absl::Status DramTier::Put(const SegmentId& id, const SegmentOrigin& origin,
                           std::shared_ptr<Segment> segment) {
  FC_CHECK(segment->sealed());
  absl::MutexLock lock(&mu_);
  if (held_.contains(id)) {
    return absl::AlreadyExistsError(absl::StrCat("segment ", id.ToHex()));
  }
  held_.emplace(id, std::make_shared<Held>(std::move(segment), used_));
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const SegmentView>> DramTier::Pin(
    const SegmentId& id) {
  absl::MutexLock lock(&mu_);
  auto found = held_.find(id);
  if (found == held_.end()) {
    return absl::NotFoundError(absl::StrCat("segment ", id.ToHex()));
  }
  // Shares Held's count, points at the segment in it.
  return std::shared_ptr<const SegmentView>(found->second,
                                            found->second->segment.get());
}

absl::Status DramTier::Drop(const SegmentId& id) {
  std::shared_ptr<Held> dropped;  // freed after the lock
  absl::MutexLock lock(&mu_);
  auto found = held_.find(id);
  if (found == held_.end()) {
    return absl::NotFoundError(absl::StrCat("segment ", id.ToHex()));
  }
  dropped = std::move(found->second);
  held_.erase(found);
  return absl::OkStatus();
}

bool DramTier::IsPinned(const SegmentId& id) const {
  absl::MutexLock lock(&mu_);
  auto found = held_.find(id);
  // Pins are made under mu_ only, so 1 means the tier's own.
  return found != held_.end() && found->second.use_count() > 1;
}

size_t DramTier::used_bytes() const { return *used_; }

size_t DramTier::segments() const {
  absl::MutexLock lock(&mu_);
  return held_.size();
}

}  // namespace forecache
