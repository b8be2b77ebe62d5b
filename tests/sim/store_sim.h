// A whole store in one thread: a clock, randomness, a disk and a network that
// belong to the test, and a model of what the store may answer.
#ifndef FORECACHE_TESTS_SIM_STORE_SIM_H_
#define FORECACHE_TESTS_SIM_STORE_SIM_H_

#include <cstdint>
#include <string>

namespace forecache {

// A mistake that the simulation must find.
enum class Plant {
  kNone,
  kDiskForgets,   // the disk says that it synced, and did not
  kForeignBytes,  // a block arrives with another's bytes, well checksummed
};

struct SimOptions {
  uint64_t seed = 1;
  int steps = 250;
  Plant plant = Plant::kNone;
};

// Threads: a value.
struct SimResult {
  uint64_t trace = 0;   // a hash of all that was done and answered
  std::string failure;  // the first broken promise; "" when there is none
  int blocks_read = 0;  // and compared
  int restarts = 0;
  int evictions = 0;  // from memory, whether they stay on SSD or not
};

SimResult RunStoreSim(const SimOptions& options);

}  // namespace forecache

#endif  // FORECACHE_TESTS_SIM_STORE_SIM_H_
