// The SSD tier's memory of what lies where, in RocksDB.
#ifndef FORECACHE_KVSTORE_SSD_METADATA_H_
#define FORECACHE_KVSTORE_SSD_METADATA_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "kvstore/segment_id.h"
#include "kvstore/ssd/disk.h"
#include "kvstore/ssd/segment_record.h"

namespace rocksdb {
class DB;
class Logger;
}  // namespace rocksdb

namespace forecache {

// A record for each segment, and when it was last used.
//
// Threads: safe to call from any thread.
// Lifetime: the disk outlives it.
class SsdMetadata {
 public:
  // Its files stay within `budget_bytes`.  A RocksDB that is damaged beyond
  // opening is thrown away, with a log line: it is a cache's.  kUnavailable
  // when the disk fails.
  static absl::StatusOr<std::unique_ptr<SsdMetadata>> Open(
      Disk* disk, size_t budget_bytes);
  ~SsdMetadata();

  // Calls `each` with all records and when they were last used.  Returns how
  // many were damaged and are forgotten now.  kFailedPrecondition when one is
  // of a newer version.
  absl::StatusOr<int> ForEach(
      const std::function<void(SegmentRecord record, uint64_t used)>& each);

  // OK means that the record outlives a crash.
  absl::Status Put(const SegmentRecord& record, uint64_t used);
  // Outlives a crash after the next Put or Sync.
  absl::Status Delete(const SegmentId& id);
  // Notes a use.  A crash may forget it.
  absl::Status Touch(std::span<const SegmentId> ids, uint64_t used);
  absl::Status Sync();

  // Opens the database anew: one that failed to write takes no more.  It holds
  // then what the disk has kept.  While that fails, so does all of the above.
  absl::Status Reopen() ABSL_LOCKS_EXCLUDED(mu_);

  // Of all of RocksDB's files.
  uint64_t bytes() const;

 private:
  SsdMetadata(Disk* disk, size_t budget_bytes);
  absl::Status OpenDb() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // `damaged` gets the ids of the others.
  absl::Status ReadAll(
      const std::function<void(SegmentRecord record, uint64_t used)>& each,
      std::vector<SegmentId>* damaged) ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status CheckOpen() const ABSL_SHARED_LOCKS_REQUIRED(mu_);
  // Makes room within the budget, or says that there is none.
  absl::Status KeepBudget() ABSL_SHARED_LOCKS_REQUIRED(mu_);

  Disk* const disk_;
  const size_t budget_bytes_;
  const std::shared_ptr<rocksdb::Logger> logger_;
  absl::Mutex mu_;
  std::unique_ptr<rocksdb::DB> db_ ABSL_GUARDED_BY(mu_);  // null: see Reopen
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_METADATA_H_
