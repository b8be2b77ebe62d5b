#include "bench/cores.h"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace forecache {

void PinToCore(int core) {
  const int cores = std::max(1u, std::thread::hardware_concurrency());
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(core % cores, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

int StoreCore(int store) {
  const int others = static_cast<int>(std::thread::hardware_concurrency()) - 1;
  return others > 0 ? 1 + store % others : 0;
}

}  // namespace forecache
