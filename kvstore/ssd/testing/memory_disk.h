// The Disk's twin in memory.
#ifndef FORECACHE_KVSTORE_SSD_TESTING_MEMORY_DISK_H_
#define FORECACHE_KVSTORE_SSD_TESTING_MEMORY_DISK_H_

#include <memory>

#include "common/clock.h"
#include "kvstore/ssd/disk.h"
#include "kvstore/ssd/testing/memory_files.h"

namespace forecache {

struct MemoryDiskOptions {
  // What each wait for operations takes on `clock`.
  Nanos delay = 0;
  Clock* clock = nullptr;
};

// A disk over `files`, which outlive it as a disk outlives a process.  Its
// operations are done at Poll or Wait, the last one first.
std::unique_ptr<Disk> NewMemoryDisk(std::shared_ptr<MemoryFiles> files,
                                    const MemoryDiskOptions& options = {});

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_TESTING_MEMORY_DISK_H_
