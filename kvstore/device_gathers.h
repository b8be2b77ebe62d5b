// Gathers whose blocks lie on a device, beside the data plane's thread.
#ifndef FORECACHE_KVSTORE_DEVICE_GATHERS_H_
#define FORECACHE_KVSTORE_DEVICE_GATHERS_H_

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "kvstore/gather.h"
#include "kvstore/side_threads.h"
#include "kvstore/store.h"

namespace forecache {

// A read that takes a millisecond would hold up whoever asks for blocks in
// memory.  So a push of which any block is on SSD is packed here, and sent
// once it is.
//
// Each thread has a gather; corrections, which are urgent, have some places of
// their own.  Without threads Start gathers before it returns.
//
// Threads: one thread, the data plane's; `on_done` is called on others.
// Lifetime: session, entries and payload of a gather stay until Take, or until
// this has gone; the store outlives it.
class DeviceGathers {
 public:
  DeviceGathers(StoreCore* store, int threads, std::function<void()> on_done);

  bool Available(bool urgent) const {
    return !free_.empty() && (urgent || bulk_left_ > 0);
  }
  // Begins one, and returns its number.  REQUIRES: Available(urgent).
  int Start(const SessionSnapshot& session,
            std::span<const wire::FetchEntry> entries, MutableBytes payload,
            bool urgent);
  bool Ended(int number) const {
    return gathers_[number]->ended.load(std::memory_order_acquire);
  }
  // Ends it.  REQUIRES: Ended(number).
  PackedPush Take(int number);

 private:
  struct Gather {
    Gatherer gatherer;
    PackedPush packed;
    bool urgent = false;
    std::atomic<bool> ended{false};
  };

  StoreCore* const store_;
  std::vector<std::unique_ptr<Gather>> gathers_;
  std::vector<int> free_;
  int bulk_left_;  // of them, that bulk may still take
  // After all that its work writes.
  SideThreads threads_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_DEVICE_GATHERS_H_
