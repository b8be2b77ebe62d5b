// The part of Prefetcher that waits: what attention does before a layer.
#include <algorithm>

#include "common/limits.h"
#include "common/status.h"
#include "worker/prefetcher.h"

namespace forecache {

absl::Status Prefetcher::AwaitFirstBlocks() {
  if (options_.no_prefetch) return absl::OkStatus();
  for (auto& gate : gates_) {
    absl::MutexLock lock(&gate->mutex);
    // Every request ends at its deadline, so this wait does too.
    gate->mutex.Await(absl::Condition(gate.get(), &Gate::Settled));
    gate->requested = gate->arrived = gate->failed = 0;
  }
  return fault_->status();
}

absl::Status Prefetcher::AwaitLayer(int layer) {
  if (options_.no_prefetch) FC_RETURN_IF_ERROR(AskForHeld(layer));
  Gate& gate = *gates_[layer];
  absl::MutexLock lock(&gate.mutex);
  // Blocks that were not asked for ahead of need are late by definition.
  const bool ahead = !options_.no_prefetch;
  const bool on_time = gate.turn == Turn::kReady && ahead;
  // Until the choice is made, nobody knows what is late: all of it will be.
  const int there = gate.turn == Turn::kFetching && ahead ? gate.arrived : 0;
  if (gate.correcting) ++corrections_late_;
  if (!gate.Settled()) {
    if (options_.late_policy == LatePolicy::kStrict) {
      // Requests end at their deadline.
      gate.mutex.Await(absl::Condition(&gate, &Gate::Settled));
    } else if (options_.late_policy == LatePolicy::kWait) {
      // A store that died and is waited for is not a block that is late: the
      // deadline counts from its return.
      const Nanos deadline = std::max(options_.late_deadline, kMillisecond);
      bool held;
      do {
        held = data_plane_->IsHolding();
        gate.may_have_settled.AwaitFor(
            &gate.mutex, deadline,
            [&gate]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(gate.mutex) {
              return gate.Settled();
            });
      } while (!gate.Settled() && (held || data_plane_->IsHolding()));
    }
  }
  const int came = on_time ? gate.requested - gate.failed : there;
  predicted_ += gate.requested;
  in_time_ += came;
  late_ += gate.requested - gate.failed - came;
  gate.requested = gate.arrived = gate.failed = 0;
  gate.turn = Turn::kAttention;
  return fault_->status();
}

}  // namespace forecache
