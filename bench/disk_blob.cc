// RocksDB's BlobDB as disk_bench drives it.
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "bench/disk_engines.h"
#include "common/clock.h"
#include "common/crc32c.h"

namespace forecache {
namespace {

absl::Status FromRocks(const rocksdb::Status& status) {
  return status.ok() ? absl::OkStatus()
                     : absl::UnavailableError(status.ToString());
}

// A segment's blocks are neighbours in the order of keys.
std::string Key(const DiskBlock& block) {
  char key[20] = {};
  std::memcpy(key, &block.segment, 4);
  key[16] = static_cast<char>(block.layer);
  key[17] = static_cast<char>(block.kv_head);
  key[18] = static_cast<char>(block.block);
  return std::string(key, sizeof(key));
}

class BlobEngine : public DiskEngine {
 public:
  BlobEngine(std::string folder, const KvGeometry& geometry, rocksdb::DB* db)
      : folder_(std::move(folder)), geometry_(geometry), db_(db) {}

  // The value is K, V and their checksums.
  absl::Status Write(int segment, const Segment& from) override {
    const size_t part = geometry_.PartBytes();
    std::string value(2 * part + sizeof(wire::PartChecksums), 0);
    auto* at = reinterpret_cast<std::byte*>(value.data());
    rocksdb::WriteBatch batch;
    ForEach(segment, [&](const DiskBlock& block) {
      BlockRead read{block.kv_head, block.block, at, at + part};
      from.Read(block.layer, {&read, 1});
      std::memcpy(at + 2 * part, &read.checksums, sizeof(read.checksums));
      batch.Put(Key(block), value);
    });
    rocksdb::WriteOptions durable;
    durable.sync = true;
    return FromRocks(db_->Write(durable, &batch));
  }

  absl::Status Drop(int segment) override {
    rocksdb::WriteBatch batch;
    ForEach(segment,
            [&](const DiskBlock& block) { batch.Delete(Key(block)); });
    return FromRocks(db_->Write({}, &batch));
  }

  absl::Status Read(std::span<const DiskBlock> blocks) override {
    const size_t part = geometry_.PartBytes();
    std::vector<std::string> names;
    for (const DiskBlock& block : blocks) names.push_back(Key(block));
    std::vector<rocksdb::Slice> keys(names.begin(), names.end());
    std::vector<rocksdb::PinnableSlice> values(keys.size());
    std::vector<rocksdb::Status> statuses(keys.size());
    rocksdb::ReadOptions options;
    options.async_io = true;
    db_->MultiGet(options, db_->DefaultColumnFamily(), keys.size(),
                  keys.data(), values.data(), statuses.data());
    for (size_t i = 0; i < keys.size(); ++i) {
      if (!statuses[i].ok()) return FromRocks(statuses[i]);
      wire::PartChecksums want;
      const ByteView bytes = std::as_bytes(std::span(values[i].data(),
                                                     values[i].size()));
      std::memcpy(&want, bytes.data() + 2 * part, sizeof(want));
      if (Crc32c(bytes.first(part)) != want.k ||
          Crc32c(bytes.subspan(part, part)) != want.v) {
        return absl::DataLossError("a block did not come back");
      }
    }
    return absl::OkStatus();
  }

  // What was written lies in its files, not in memory or in its log, and what
  // it does in the background is done.
  void Settle() override {
    (void)db_->Flush({});
    uint64_t running = 1;
    while (running > 0) {
      uint64_t compactions = 0, flushes = 0, pending = 0;
      db_->GetIntProperty("rocksdb.num-running-compactions", &compactions);
      db_->GetIntProperty("rocksdb.num-running-flushes", &flushes);
      db_->GetIntProperty("rocksdb.compaction-pending", &pending);
      running = compactions + flushes + pending;
      if (running > 0) Clock::Real()->SleepFor(kMillisecond);
    }
  }

  uint64_t Bytes() const override {
    uint64_t sum = 0;
    for (const auto& file : std::filesystem::directory_iterator(folder_)) {
      std::error_code gone;
      const uint64_t bytes = file.file_size(gone);
      if (!gone) sum += bytes;
    }
    return sum;
  }

 private:
  template <typename F>
  void ForEach(int segment, F f) const {
    for (int layer = 0; layer < geometry_.layers; ++layer) {
      for (int head = 0; head < geometry_.kv_heads; ++head) {
        for (int block = 0; block < kSegmentBlocks; ++block) {
          f(DiskBlock{segment, layer, head, block});
        }
      }
    }
  }

  const std::string folder_;
  const KvGeometry geometry_;
  const std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DiskEngine>> OpenBlobEngine(
    const std::string& folder, const KvGeometry& geometry) {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.compression = rocksdb::kNoCompression;
  options.use_direct_reads = true;
  options.use_direct_io_for_flush_and_compaction = true;
  options.enable_blob_files = true;
  options.min_blob_size = 0;
  options.blob_file_size = uint64_t{64} << 20;
  options.enable_blob_garbage_collection = true;
  options.blob_garbage_collection_age_cutoff = 0.5;
  options.write_buffer_size = size_t{64} << 20;
  rocksdb::DB* db = nullptr;
  absl::Status status = FromRocks(rocksdb::DB::Open(options, folder, &db));
  if (!status.ok()) return status;
  return std::make_unique<BlobEngine>(folder, geometry, db);
}

}  // namespace forecache
