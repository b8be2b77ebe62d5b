// Time, only ever monotonic.  Nothing in Forecache decides by the wall clock.
#ifndef FORECACHE_COMMON_CLOCK_H_
#define FORECACHE_COMMON_CLOCK_H_

#include <cstdint>

namespace forecache {

// Nanoseconds on a clock that never steps.  Only differences mean anything.
using Nanos = int64_t;

inline constexpr Nanos kMicrosecond = 1'000;
inline constexpr Nanos kMillisecond = 1'000'000;
inline constexpr Nanos kSecond = 1'000'000'000;

// The source of time.
//
// Threads: safe to call from any thread.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual Nanos Now() = 0;
  // Sleeps for `duration`; returns at once when it is not positive.
  virtual void SleepFor(Nanos duration) = 0;

  // The machine's clock.  Lives for the whole process.
  static Clock* Real();
};

}  // namespace forecache

#endif  // FORECACHE_COMMON_CLOCK_H_
