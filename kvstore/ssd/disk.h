// The seam to a solid-state disk: one folder, a file of pages, batches.
//
// UringDisk is the real one; MemoryDisk (testing/) can lose what was not
// synced.  tests/kvstore/ssd/disk_test.cc holds both to this page.
#ifndef FORECACHE_KVSTORE_SSD_DISK_H_
#define FORECACHE_KVSTORE_SSD_DISK_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "common/limits.h"

namespace rocksdb {
class Env;
}  // namespace rocksdb

namespace forecache {

// One read or write of pages.
//
// Threads: a value.
struct DiskOp {
  enum class Kind : uint8_t { kRead, kWrite };
  Kind kind = Kind::kRead;
  uint64_t offset = 0;        // a multiple of kSsdPageBytes, as are
  std::byte* data = nullptr;  // the address
  size_t bytes = 0;           // and the length
  size_t moved = 0;           // the queue's
  // Once it has ended.  kResourceExhausted: the disk is full; kUnavailable: it
  // failed, and what was to be written may be there or not.
  absl::Status status;
};

// Operations under way on one file.
//
// Threads: one thread at a time.
// Lifetime: the file outlives it.
class DiskQueue {
 public:
  virtual ~DiskQueue() = default;  // waits
  // Starts operations at once, as many as the depth allows, the others as room
  // comes.  They and their memory are the queue's until they have ended.
  virtual void Start(std::span<DiskOp> ops) = 0;
  // Goes on without waiting.  True when nothing is under way.
  virtual bool Poll() = 0;
  // Waits until nothing is under way.
  virtual void Wait() = 0;
};

// A file of fixed size.
//
// Threads: safe to call from any thread.
class DiskFile {
 public:
  virtual ~DiskFile() = default;
  virtual uint64_t bytes() const = 0;
  virtual std::unique_ptr<DiskQueue> NewQueue(int depth) = 0;
  // What was written before, and has ended, outlives a crash.
  virtual absl::Status Sync() = 0;
};

// Threads: safe to call from any thread.
// Lifetime: outlives its files.
class Disk {
 public:
  virtual ~Disk() = default;
  // For logs: the folder, and how it is read and written.
  virtual std::string Name() const = 0;

  // Keeps other processes from this disk while the object lives; again is
  // fine.  kFailedPrecondition when one has it.
  virtual absl::Status Lock() = 0;

  // A small file, whole.  kNotFound.
  virtual absl::StatusOr<std::string> ReadFile(const std::string& name) = 0;
  // Replaces it.  OK means durable; after a crash it is the old one or the new.
  // Its owner only may read it.
  virtual absl::Status WriteFile(const std::string& name,
                                 const std::string& bytes) = 0;

  // Opens a file of pages, made, grown or cut to `bytes`, which is durable
  // then.  What was never written reads as anything.
  // kResourceExhausted when the disk has no room for it.
  virtual absl::StatusOr<std::unique_ptr<DiskFile>> OpenFile(
      const std::string& name, uint64_t bytes) = 0;

  // Where RocksDB keeps its files, and through what.
  virtual rocksdb::Env* MetadataEnv() = 0;
  virtual std::string MetadataPath() const = 0;
};

// Memory that a DiskOp may use.
//
// Threads: a value.
class PageBuffer {
 public:
  explicit PageBuffer(size_t bytes)
      : bytes_((bytes + kSsdPageBytes - 1) / kSsdPageBytes * kSsdPageBytes),
        data_(static_cast<std::byte*>(
            ::operator new(bytes_, std::align_val_t{kSsdPageBytes}))) {}
  std::byte* data() const { return data_.get(); }
  size_t size() const { return bytes_; }

 private:
  struct Free {
    void operator()(std::byte* data) const {
      ::operator delete(data, std::align_val_t{kSsdPageBytes});
    }
  };
  size_t bytes_;
  std::unique_ptr<std::byte, Free> data_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_DISK_H_
