// Two ways to keep the blocks of segments on SSD, for disk_bench.
#ifndef FORECACHE_BENCH_DISK_ENGINES_H_
#define FORECACHE_BENCH_DISK_ENGINES_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kvstore/segment.h"

namespace forecache {

// One block of one segment.
struct DiskBlock {
  int segment = 0;
  int layer = 0;
  int kv_head = 0;
  int block = 0;
};

// Threads: one thread.
class DiskEngine {
 public:
  virtual ~DiskEngine() = default;
  // Durable when it returns.
  virtual absl::Status Write(int segment, const Segment& from) = 0;
  virtual absl::Status Drop(int segment) = 0;
  // Reads blocks as one batch, checksums included.
  virtual absl::Status Read(std::span<const DiskBlock> blocks) = 0;
  // Lets go of what Read keeps at hand of segments.
  virtual void Settle() {}
  // What it takes on disk now.
  virtual uint64_t Bytes() const = 0;
};

// Ours: extents, io_uring, RocksDB for what lies where.
absl::StatusOr<std::unique_ptr<DiskEngine>> OpenExtentsEngine(
    const std::string& folder, const KvGeometry& geometry, size_t capacity,
    DramArena* arena);
// RocksDB's BlobDB: a value for each block, direct reads.
absl::StatusOr<std::unique_ptr<DiskEngine>> OpenBlobEngine(
    const std::string& folder, const KvGeometry& geometry);

}  // namespace forecache

#endif  // FORECACHE_BENCH_DISK_ENGINES_H_
