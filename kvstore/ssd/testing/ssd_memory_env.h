// RocksDB's door to MemoryFiles.
#ifndef FORECACHE_KVSTORE_SSD_TESTING_SSD_MEMORY_ENV_H_
#define FORECACHE_KVSTORE_SSD_TESTING_SSD_MEMORY_ENV_H_

#include <rocksdb/env.h>

#include <memory>

#include "kvstore/ssd/testing/memory_files.h"

namespace forecache {

// An Env whose files are `files`; clock and threads are the machine's.
std::unique_ptr<rocksdb::Env> NewMemoryEnv(std::shared_ptr<MemoryFiles> files);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_TESTING_SSD_MEMORY_ENV_H_
