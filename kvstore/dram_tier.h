// Sealed segments in host memory.
#ifndef FORECACHE_KVSTORE_DRAM_TIER_H_
#define FORECACHE_KVSTORE_DRAM_TIER_H_

#include <memory>
#include <string>
#include <unordered_map>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kvstore/tier.h"

namespace forecache {

// Adopts segments where they lie in the arena: Put copies nothing.
//
// Threads: safe to call from any thread.
// Lifetime: the arena outlives it.
class DramTier : public Tier {
 public:
  explicit DramTier(const DramArena* arena);
  ~DramTier() override;

  std::string Name() const override { return "dram"; }
  absl::Status Put(const SegmentId& id, const SegmentOrigin& origin,
                   std::shared_ptr<Segment> segment) override;
  absl::StatusOr<std::shared_ptr<const SegmentView>> Pin(
      const SegmentId& id) override;
  absl::Status Drop(const SegmentId& id) override;
  bool IsPinned(const SegmentId& id) const override;
  size_t used_bytes() const override;
  size_t capacity_bytes() const override { return arena_->capacity_bytes(); }
  size_t segments() const override;

 private:
  struct Held;

  const DramArena* const arena_;
  const std::shared_ptr<std::atomic<size_t>> used_;
  mutable absl::Mutex mu_;
  std::unordered_map<SegmentId, std::shared_ptr<Held>, SegmentIdHash> held_
      ABSL_GUARDED_BY(mu_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_DRAM_TIER_H_
