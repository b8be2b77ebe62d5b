// A Disk in a folder, by io_uring and O_DIRECT.
#ifndef FORECACHE_KVSTORE_SSD_URING_DISK_H_
#define FORECACHE_KVSTORE_SSD_URING_DISK_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "kvstore/ssd/disk.h"

namespace forecache {

struct UringDiskOptions {
  // false: pread and pwrite, one after the other.  For tests; where the kernel
  // refuses io_uring (many containers do) it happens by itself.
  bool io_uring = true;
  // false: through the page cache.  Where the file system refuses O_DIRECT it
  // happens by itself.
  bool direct = true;
};

// Uses `folder`, which is made when it is not there.  What it does without is
// logged as a warning.  kUnavailable names the folder and why.
absl::StatusOr<std::unique_ptr<Disk>> OpenUringDisk(
    const std::string& folder, const UringDiskOptions& options = {});

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_URING_DISK_H_
