// The wall clock of a process that a test steps: wall_clock_shim.cc reads it.
#ifndef FORECACHE_TESTS_JOURNAL_WALL_CLOCK_H_
#define FORECACHE_TESTS_JOURNAL_WALL_CLOCK_H_

#include <atomic>
#include <cstdint>

namespace forecache {

// Threads: two processes share one; atomic.
struct WallClock {
  std::atomic<int64_t> offset_seconds;
  std::atomic<uint64_t> reads;
};
static_assert(std::atomic<int64_t>::is_always_lock_free);

}  // namespace forecache

#endif  // FORECACHE_TESTS_JOURNAL_WALL_CLOCK_H_
