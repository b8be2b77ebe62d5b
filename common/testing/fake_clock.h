// A clock that a test moves by hand.
#ifndef FORECACHE_COMMON_TESTING_FAKE_CLOCK_H_
#define FORECACHE_COMMON_TESTING_FAKE_CLOCK_H_

#include <atomic>

#include "common/clock.h"

namespace forecache {

// Threads: safe to call from any thread.
class FakeClock : public Clock {
 public:
  Nanos Now() override { return now_.load(); }
  void SleepFor(Nanos duration) override { Advance(duration); }
  void Advance(Nanos duration) { now_ += duration > 0 ? duration : 0; }

 private:
  std::atomic<Nanos> now_{1'000 * kSecond};
};

}  // namespace forecache

#endif  // FORECACHE_COMMON_TESTING_FAKE_CLOCK_H_
