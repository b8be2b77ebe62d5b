// Preloaded into a process, steps its wall clock: the file that
// FORECACHE_WALL_CLOCK names holds a WallClock that the test writes to.
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "tests/journal/wall_clock.h"

namespace {

forecache::WallClock* Stepped() {
  static forecache::WallClock* const clock = []() -> forecache::WallClock* {
    const char* path = getenv("FORECACHE_WALL_CLOCK");
    const int file = path == nullptr ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) abort();  // else the test would show nothing
    void* memory = mmap(nullptr, sizeof(forecache::WallClock),
                        PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) abort();
    close(file);
    return static_cast<forecache::WallClock*>(memory);
  }();
  return clock;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t id, timespec* now) noexcept {
  const long code = syscall(SYS_clock_gettime, id, now);
  if (code != 0 || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) {
    return static_cast<int>(code);
  }
  forecache::WallClock* const clock = Stepped();
  now->tv_sec += clock->offset_seconds.load(std::memory_order_relaxed);
  clock->reads.fetch_add(1, std::memory_order_relaxed);
  return 0;
}

int gettimeofday(timeval* now, void*) noexcept {
  timespec precise;
  if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
  *now = {precise.tv_sec, precise.tv_nsec / 1000};
  return 0;
}

time_t time(time_t* now) noexcept {
  timespec precise;
  if (clock_gettime(CLOCK_REALTIME, &precise) != 0) return -1;
  if (now != nullptr) *now = precise.tv_sec;
  return precise.tv_sec;
}

}  // extern "C"
