// Memory that another process of the same host can map.
#ifndef FORECACHE_TRANSPORT_SHARED_MEMORY_H_
#define FORECACHE_TRANSPORT_SHARED_MEMORY_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/bytes.h"

namespace forecache {

// An anonymous file (memfd): it needs no room in /dev/shm, and goes with the
// last process that maps it, however that ends.  Its size is sealed.
//
// Not UCX's own shared memory: when the process that made it has gone, mapping
// that crashes in UCX 1.13.1 instead of failing.
//
// Threads: safe to call from any thread.
class SharedMemory {
 public:
  // New memory, zeroed; pages that are never touched cost nothing.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Create(size_t size);
  // Maps what the key() of another process names.  Returns kUnavailable when
  // that process is gone, kPermissionDenied when it belongs to another user or
  // is not seen from this PID namespace.
  static absl::StatusOr<std::unique_ptr<SharedMemory>> Open(
      const std::string& key);
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  MutableBytes bytes() const { return bytes_; }
  const std::string& key() const { return key_; }

 private:
  SharedMemory() = default;

  int fd_ = -1;  // of who created it
  MutableBytes bytes_;
  std::string key_;
};

}  // namespace forecache

#endif  // FORECACHE_TRANSPORT_SHARED_MEMORY_H_
