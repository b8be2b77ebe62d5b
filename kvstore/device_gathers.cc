#include "kvstore/device_gathers.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace forecache {
namespace {

// Gathers that bulk leaves to corrections.
constexpr int kUrgentGathers = 4;

}  // namespace

DeviceGathers::DeviceGathers(StoreCore* store, int threads,
                             std::function<void()> on_done)
    : store_(store),
      bulk_left_(std::max(threads, 1)),
      threads_("ssd-read", threads, std::move(on_done)) {
  for (int i = 0; i < bulk_left_ + kUrgentGathers; ++i) {
    gathers_.push_back(std::make_unique<Gather>());
    free_.push_back(i);
  }
}

int DeviceGathers::Start(const SessionSnapshot& session,
                         std::span<const wire::FetchEntry> entries,
                         MutableBytes payload, bool urgent) {
  FC_CHECK(Available(urgent));
  const int number = free_.back();
  free_.pop_back();
  if (!urgent) --bulk_left_;
  Gather* gather = gathers_[number].get();
  gather->urgent = urgent;
  gather->ended = false;
  threads_.Submit(
      [this, gather, &session, entries, payload] {
        gather->packed =
            store_->Gather(session, entries, &gather->gatherer, payload);
        gather->ended.store(true, std::memory_order_release);
      },
      urgent);
  return number;
}

PackedPush DeviceGathers::Take(int number) {
  Gather& gather = *gathers_[number];
  FC_CHECK(gather.ended) << number;
  if (!gather.urgent) ++bulk_left_;
  free_.push_back(number);
  return gather.packed;
}

}  // namespace forecache
