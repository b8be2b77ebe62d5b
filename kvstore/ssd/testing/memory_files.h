// Files in memory that lose what was not synced.
#ifndef FORECACHE_KVSTORE_SSD_TESTING_MEMORY_FILES_H_
#define FORECACHE_KVSTORE_SSD_TESTING_MEMORY_FILES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/bytes.h"
#include "common/rng.h"

namespace forecache {

// What a machine's disk holds, and what would be left of it after a crash.
// MemoryDisk and MemoryFileSystem (RocksDB's) are two doors to it, so faults
// and crashes hit data and metadata alike.
//
// Every change is a step: a write, sync, truncation, and what is done to
// names.  Faults are told by the steps' numbers.
//
// Threads: safe to call from any thread.
class MemoryFiles {
 public:
  // An open file.  Those from before a crash work on nothing that lasts.
  struct File;
  using FileRef = std::shared_ptr<File>;

  // --- What tests do ---

  // Steps so far.
  int64_t steps() const ABSL_LOCKS_EXCLUDED(mu_);
  // `count` steps from number `first` on fail and change nothing.
  void FailSteps(int64_t first, int64_t count, const absl::Status& why)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Step number `step` waits until LetGo.
  void HoldStep(int64_t step) ABSL_LOCKS_EXCLUDED(mu_);
  void LetGo() ABSL_LOCKS_EXCLUDED(mu_) { HoldStep(-1); }
  // The process and the machine are gone: names that were not synced are as
  // they were at the last sync; of contents that were not, each page stays or
  // goes by the seed, and with seed 0 goes.
  void Crash(uint64_t seed) ABSL_LOCKS_EXCLUDED(mu_);
  // Damages what lies there.
  void FlipBit(const std::string& name, uint64_t offset, int bit)
      ABSL_LOCKS_EXCLUDED(mu_);
  // The names that begin with `prefix`.
  std::vector<std::string> Names(const std::string& prefix) const
      ABSL_LOCKS_EXCLUDED(mu_);

  // --- What file systems do ---

  // Opens a file; kNotFound unless `create`.
  absl::StatusOr<FileRef> Open(const std::string& name, bool create)
      ABSL_LOCKS_EXCLUDED(mu_);
  bool Exists(const std::string& name) const ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<uint64_t> Size(const std::string& name) const
      ABSL_LOCKS_EXCLUDED(mu_);
  uint64_t Size(const FileRef& file) const ABSL_LOCKS_EXCLUDED(mu_);
  // How many of `out` there were.
  size_t Read(const FileRef& file, uint64_t offset, MutableBytes out) const
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Write(const FileRef& file, uint64_t offset, ByteView bytes)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Resize(const FileRef& file, uint64_t bytes)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Sync(const FileRef& file) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Rename(const std::string& from, const std::string& to)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status Delete(const std::string& name) ABSL_LOCKS_EXCLUDED(mu_);
  // Makes the names that begin with `prefix` last as they are.
  absl::Status SyncNames(const std::string& prefix) ABSL_LOCKS_EXCLUDED(mu_);

  // False when it is locked already.
  bool Lock(const std::string& name) ABSL_LOCKS_EXCLUDED(mu_);
  void Unlock(const std::string& name) ABSL_LOCKS_EXCLUDED(mu_);

 private:
  absl::Status Step() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  mutable absl::Mutex mu_;
  std::map<std::string, FileRef> names_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, FileRef> durable_names_ ABSL_GUARDED_BY(mu_);
  std::set<std::string> locks_ ABSL_GUARDED_BY(mu_);
  int64_t steps_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t held_step_ ABSL_GUARDED_BY(mu_) = -1;
  int64_t fail_first_ ABSL_GUARDED_BY(mu_) = 0;
  int64_t fail_count_ ABSL_GUARDED_BY(mu_) = 0;
  absl::Status fail_why_ ABSL_GUARDED_BY(mu_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_TESTING_MEMORY_FILES_H_
