#include "common/clock.h"

#include <time.h>

namespace forecache {
namespace {

class RealClock : public Clock {
 public:
  Nanos Now() override {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return Nanos{now.tv_sec} * kSecond + now.tv_nsec;
  }

  void SleepFor(Nanos duration) override {
    if (duration <= 0) return;
    timespec left{static_cast<time_t>(duration / kSecond),
                  static_cast<long>(duration % kSecond)};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) != 0) {
    }
  }
};

}  // namespace

Clock* Clock::Real() {
  static RealClock clock;
  return &clock;
}

}  // namespace forecache
