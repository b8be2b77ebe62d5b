#include "kvstore/ssd/metadata.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/status.h"

namespace forecache {
namespace {

// A key is one of these letters and the segment's id.
constexpr char kRecordKey = 's';
constexpr char kUsedKey = 'u';
// Room for a flush and a compaction on their way.
constexpr size_t kMemtableShare = 16;
constexpr size_t kMemtableBytesMax = size_t{4} << 20;
constexpr size_t kMemtableBytesMin = size_t{64} << 10;
constexpr size_t kManifestBytes = size_t{128} << 10;
constexpr size_t kBlockCacheBytes = size_t{1} << 20;

absl::Status FromRocks(const rocksdb::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const std::string text = absl::StrCat("metadata: ", status.ToString());
  if (status.IsNotFound()) return absl::NotFoundError(text);
  if (status.IsNoSpace()) return absl::ResourceExhaustedError(text);
  if (status.IsCorruption()) return absl::DataLossError(text);
  return absl::UnavailableError(text);
}

std::string Key(char kind, const SegmentId& id) {
  std::string key(1, kind);
  key.append(reinterpret_cast<const char*>(id.bytes.data()), id.bytes.size());
  return key;
}

// The id in a key; false when the key is nothing of ours.
bool IdOf(const rocksdb::Slice& key, SegmentId* id) {
  if (key.size() != 1 + id->bytes.size()) return false;
  std::memcpy(id->bytes.data(), key.data() + 1, id->bytes.size());
  return true;
}

// RocksDB's warnings in our log, instead of a file that grows.
//
// Threads: safe to call from any thread.
class ForwardingLogger : public rocksdb::Logger {
 public:
  ForwardingLogger() : rocksdb::Logger(rocksdb::InfoLogLevel::WARN_LEVEL) {}
  using rocksdb::Logger::Logv;
  void Logv(const char* format, va_list arguments) override {
    char text[512];
    std::vsnprintf(text, sizeof(text), format, arguments);
    LogWarning("rocksdb", {{"says", text}});
  }
};

rocksdb::Options OptionsFor(Disk* disk, size_t budget_bytes,
                            std::shared_ptr<rocksdb::Logger> logger) {
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(kBlockCacheBytes);
  rocksdb::Options options;
  options.create_if_missing = true;
  options.env = disk->MetadataEnv();
  options.info_log = std::move(logger);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.compression = rocksdb::kNoCompression;
  options.write_buffer_size = std::clamp(budget_bytes / kMemtableShare,
                                         kMemtableBytesMin, kMemtableBytesMax);
  options.max_write_buffer_number = 2;
  options.max_total_wal_size = options.write_buffer_size;
  options.target_file_size_base = options.write_buffer_size;
  options.level0_file_num_compaction_trigger = 2;
  options.max_background_jobs = 1;
  options.max_open_files = 32;
  options.max_manifest_file_size = kManifestBytes;
  options.allow_fallocate = false;  // its reserve would count as used
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  options.recycle_log_file_num = 0;
  return options;
}

rocksdb::WriteOptions Durable() {
  rocksdb::WriteOptions options;
  options.sync = true;
  return options;
}

}  // namespace

SsdMetadata::SsdMetadata(Disk* disk, size_t budget_bytes)
    : disk_(disk),
      budget_bytes_(budget_bytes),
      logger_(std::make_shared<ForwardingLogger>()) {}

SsdMetadata::~SsdMetadata() = default;

absl::Status SsdMetadata::OpenDb() {
  // RocksDB logs an error when it has to make it.
  FC_RETURN_IF_ERROR(FromRocks(
      disk_->MetadataEnv()->CreateDirIfMissing(disk_->MetadataPath())));
  rocksdb::DB* db = nullptr;
  absl::Status status =
      FromRocks(rocksdb::DB::Open(OptionsFor(disk_, budget_bytes_, logger_),
                                  disk_->MetadataPath(), &db));
  db_.reset(db);
  return status;
}

absl::Status SsdMetadata::CheckOpen() const {
  if (db_ != nullptr) return absl::OkStatus();
  return absl::UnavailableError("metadata: it could not be opened again");
}

absl::Status SsdMetadata::Reopen() {
  absl::MutexLock lock(&mu_);
  db_ = nullptr;
  return OpenDb();
}

absl::StatusOr<std::unique_ptr<SsdMetadata>> SsdMetadata::Open(
    Disk* disk, size_t budget_bytes) {
  auto metadata =
      std::unique_ptr<SsdMetadata>(new SsdMetadata(disk, budget_bytes));
  absl::MutexLock lock(&metadata->mu_);
  absl::Status opened = metadata->OpenDb();
  if (absl::IsDataLoss(opened)) {
    LogError("ssd: the metadata is damaged: the tier starts empty",
             {{"why", opened.message()}});
    FC_RETURN_IF_ERROR(FromRocks(rocksdb::DestroyDB(
        disk->MetadataPath(),
        OptionsFor(disk, budget_bytes, metadata->logger_))));
    opened = metadata->OpenDb();
  }
  if (!opened.ok()) return opened;
  return metadata;
}

absl::StatusOr<int> SsdMetadata::ForEach(
    const std::function<void(SegmentRecord record, uint64_t used)>& each) {
  std::vector<SegmentId> lost;
  FC_RETURN_IF_ERROR(ReadAll(each, &lost));
  for (const SegmentId& id : lost) FC_RETURN_IF_ERROR(Delete(id));
  return static_cast<int>(lost.size());
}

absl::Status SsdMetadata::ReadAll(
    const std::function<void(SegmentRecord record, uint64_t used)>& each,
    std::vector<SegmentId>* damaged) {
  absl::ReaderMutexLock lock(&mu_);
  FC_RETURN_IF_ERROR(CheckOpen());
  const std::string first(1, kRecordKey), end(1, kRecordKey + 1);
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
  for (it->Seek(first); it->Valid() && it->key().compare(end) < 0;
       it->Next()) {
    SegmentId id;
    if (!IdOf(it->key(), &id)) continue;
    auto record = DecodeSegmentRecord(id, it->value().ToStringView());
    if (absl::IsFailedPrecondition(record.status())) return record.status();
    if (!record.ok()) {
      damaged->push_back(id);
      continue;
    }
    uint64_t used = 0;
    std::string value;
    if (db_->Get({}, Key(kUsedKey, id), &value).ok() &&
        value.size() == sizeof(used)) {
      std::memcpy(&used, value.data(), sizeof(used));
    }
    each(*std::move(record), used);
  }
  return FromRocks(it->status());
}

absl::Status SsdMetadata::KeepBudget() {
  // A record, its log and its table are small against what is kept free here.
  const uint64_t enough = budget_bytes_ - budget_bytes_ / 4;
  if (bytes() <= enough) return absl::OkStatus();
  FC_RETURN_IF_ERROR(FromRocks(db_->Flush({})));
  FC_RETURN_IF_ERROR(FromRocks(db_->CompactRange({}, nullptr, nullptr)));
  const uint64_t now = bytes();
  if (now <= enough) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "metadata: ", now, " of ", budget_bytes_, " bytes are in use"));
}

absl::Status SsdMetadata::Put(const SegmentRecord& record, uint64_t used) {
  absl::ReaderMutexLock lock(&mu_);
  FC_RETURN_IF_ERROR(CheckOpen());
  FC_RETURN_IF_ERROR(KeepBudget());
  rocksdb::WriteBatch batch;
  batch.Put(Key(kRecordKey, record.id), EncodeSegmentRecord(record));
  batch.Put(Key(kUsedKey, record.id),
            rocksdb::Slice(reinterpret_cast<const char*>(&used),
                           sizeof(used)));
  return FromRocks(db_->Write(Durable(), &batch));
}

absl::Status SsdMetadata::Delete(const SegmentId& id) {
  absl::ReaderMutexLock lock(&mu_);
  FC_RETURN_IF_ERROR(CheckOpen());
  rocksdb::WriteBatch batch;
  batch.Delete(Key(kRecordKey, id));
  batch.Delete(Key(kUsedKey, id));
  return FromRocks(db_->Write({}, &batch));
}

absl::Status SsdMetadata::Touch(std::span<const SegmentId> ids,
                                uint64_t used) {
  absl::ReaderMutexLock lock(&mu_);
  FC_RETURN_IF_ERROR(CheckOpen());
  FC_RETURN_IF_ERROR(KeepBudget());
  rocksdb::WriteBatch batch;
  for (const SegmentId& id : ids) {
    batch.Put(Key(kUsedKey, id),
              rocksdb::Slice(reinterpret_cast<const char*>(&used),
                             sizeof(used)));
  }
  return FromRocks(db_->Write({}, &batch));
}

absl::Status SsdMetadata::Sync() {
  absl::ReaderMutexLock lock(&mu_);
  FC_RETURN_IF_ERROR(CheckOpen());
  return FromRocks(db_->SyncWAL());
}

uint64_t SsdMetadata::bytes() const {
  rocksdb::Env* env = disk_->MetadataEnv();
  std::vector<std::string> names;
  uint64_t sum = 0;
  if (!env->GetChildren(disk_->MetadataPath(), &names).ok()) return 0;
  for (const std::string& name : names) {
    uint64_t bytes = 0;
    // One that goes meanwhile counts as gone.
    if (env->GetFileSize(disk_->MetadataPath() + "/" + name, &bytes).ok()) {
      sum += bytes;
    }
  }
  return sum;
}

}  // namespace forecache
