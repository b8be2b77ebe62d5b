// The part of SsdTier that finds segments again, and looks them over.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "common/status.h"
#include "kvstore/ssd/ssd_tier.h"

namespace forecache {
namespace {

// Apart from RocksDB, so that it can be read when that cannot.
constexpr char kFormatFile[] = "format";
constexpr char kFormatName[] = "forecache-ssd";
constexpr int kFormatVersion = 2;
constexpr char kExtentsFile[] = "extents";
constexpr size_t kExtentBytesMin = size_t{64} << 10;

size_t MetadataBytes(size_t capacity_bytes) {
  return kSsdMetadataBytesMin + capacity_bytes / kSsdMetadataShare;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SsdTier>> SsdTier::Open(
    const SsdTierOptions& options, std::unique_ptr<Disk> disk,
    DramArena* arena, Metrics* metrics) {
  FC_CHECK(options.extent_bytes % kSsdPageBytes == 0 &&
           options.extent_bytes >= kExtentBytesMin);
  auto tier = std::unique_ptr<SsdTier>(
      new SsdTier(std::move(disk), arena, metrics));
  FC_RETURN_IF_ERROR(tier->Recover(options));
  return tier;
}

// "forecache-ssd 2 1048576": name, version, bytes of an extent.
absl::Status SsdTier::ReadFormat(size_t extent_bytes) {
  auto text = disk_->ReadFile(kFormatFile);
  if (absl::IsNotFound(text.status())) {
    extent_bytes_ = extent_bytes;
    return WriteFormat();
  }
  FC_RETURN_IF_ERROR(text.status());
  const std::vector<std::string> words =
      absl::StrSplit(*text, absl::ByAnyChar(" \n"), absl::SkipEmpty());
  int version = 0;
  if (words.size() < 2 || words[0] != kFormatName ||
      !absl::SimpleAtoi(words[1], &version) || version < 1) {
    return absl::FailedPreconditionError(
        absl::StrCat(disk_->Name(), ": its file '", kFormatFile,
                     "' is not a store's: is this the right folder?"));
  }
  if (version > kFormatVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        disk_->Name(), ": its format is version ", version,
        ", this store reads up to ", kFormatVersion));
  }
  uint64_t bytes = 0;
  if (words.size() != 3 || !absl::SimpleAtoi(words[2], &bytes) ||
      bytes < kExtentBytesMin || bytes % kSsdPageBytes != 0 ||
      bytes > (size_t{1} << 30)) {
    return absl::FailedPreconditionError(absl::StrCat(
        disk_->Name(), ": its file '", kFormatFile, "' is damaged"));
  }
  extent_bytes_ = bytes;
  // What is written from now on an older store must not read.
  return version < kFormatVersion ? WriteFormat() : absl::OkStatus();
}

absl::Status SsdTier::WriteFormat() {
  return disk_->WriteFile(kFormatFile,
                          absl::StrCat(kFormatName, " ", kFormatVersion, " ",
                                       extent_bytes_, "\n"));
}

absl::Status SsdTier::Recover(const SsdTierOptions& options) {
  FC_RETURN_IF_ERROR(disk_->Lock());
  FC_RETURN_IF_ERROR(ReadFormat(options.extent_bytes));
  const size_t metadata_bytes = MetadataBytes(options.capacity_bytes);
  if (options.capacity_bytes < metadata_bytes + extent_bytes_) {
    return absl::InvalidArgumentError(absl::StrCat(
        "capacity is ", options.capacity_bytes, " bytes, must be at least ",
        metadata_bytes + extent_bytes_));
  }
  extents_ = (options.capacity_bytes - metadata_bytes) / extent_bytes_;
  FC_ASSIGN_OR_RETURN(metadata_,
                      SsdMetadata::Open(disk_.get(), metadata_bytes));
  FC_RETURN_IF_ERROR(FindSegments());
  // Cut only after the records beyond its end are gone.
  FC_ASSIGN_OR_RETURN(file_, disk_->OpenFile(kExtentsFile,
                                             extents_ * extent_bytes_));
  io_ = std::make_unique<SegmentIo>(file_.get(), extent_bytes_, &metrics_);
  return absl::OkStatus();
}

bool SsdTier::Claim(const SegmentRecord& record) {
  const size_t count = SegmentLayout(record).Extents(extent_bytes_);
  if (record.extents.size() != count) return false;
  absl::MutexLock lock(&mu_);
  for (size_t i = 0; i < count; ++i) {
    if (free_.erase(record.extents[i]) == 1) continue;
    for (size_t taken = 0; taken < i; ++taken) {
      free_.insert(record.extents[taken]);
    }
    return false;
  }
  return true;
}

absl::Status SsdTier::FindSegments() {
  {
    absl::MutexLock lock(&mu_);
    for (uint32_t i = 0; i < extents_; ++i) free_.insert(i);
  }
  std::vector<std::pair<SegmentRecord, uint64_t>> records;
  FC_ASSIGN_OR_RETURN(
      const int damaged,
      metadata_->ForEach([&](SegmentRecord record, uint64_t used) {
        records.emplace_back(std::move(record), used);
      }));
  metrics_.torn->Add(damaged);
  // The newest first: of two that name one extent it is the one that has it.
  std::ranges::sort(records, [](const auto& a, const auto& b) {
    return a.first.generation > b.first.generation;
  });
  for (auto& [record, used] : records) {
    generation_ = std::max(generation_.load(), record.generation + 1);
    clock_ = std::max(clock_.load(), used + 1);
    const SegmentId id = record.id;
    if (!Claim(record)) {
      const bool beyond = std::ranges::any_of(
          record.extents, [&](uint32_t extent) { return extent >= extents_; });
      (beyond ? metrics_.beyond_bound : metrics_.torn)->Add();
      FC_RETURN_IF_ERROR(metadata_->Delete(id));
      continue;
    }
    found_.push_back({id, record.origin, record.geometry,
                      record.extents.size() * extent_bytes_, used});
    auto place = std::make_shared<SsdPlace>(std::move(record), GiveBack());
    absl::MutexLock lock(&mu_);
    held_.emplace(id, std::make_shared<Held>(std::move(place)));
  }
  std::ranges::stable_sort(found_, {}, &FoundSegment::used);
  metrics_.recovered->Add(static_cast<double>(found_.size()));
  LogInfo("ssd recovered", {{"disk", disk_->Name()},
                            {"segments", found_.size()},
                            {"torn", metrics_.torn->Value()},
                            {"beyond_bound", metrics_.beyond_bound->Value()}});
  return metadata_->Sync();
}

absl::Status SsdTier::CheckPlane(const SegmentId& id, size_t plane,
                                 size_t* bytes) {
  std::shared_ptr<Held> held = Find(id);
  if (held == nullptr) return absl::NotFoundError("dropped");
  const SsdPlace& place = *held->place;
  const SegmentLayout& layout = place.layout;
  if (plane >= layout.planes) return absl::OutOfRangeError("no such plane");
  PageBuffer buffer(kSsdLaneBytes);
  uint32_t crc = 0;
  for (size_t at = 0; plane == 0 && at < layout.summary_bytes;) {
    const size_t count = std::min(buffer.size(), layout.summary_bytes - at);
    FC_RETURN_IF_ERROR(
        io_->Read(place, layout.summary_offset + at, count, buffer.data()));
    crc = Crc32c({buffer.data(), count}, crc);
    at += count;
    *bytes += count;
  }
  if (plane == 0 && crc != place.record.summary_crc) {
    return absl::DataLossError("the summary does not match its checksum");
  }
  const size_t plane_bytes = kSegmentBlocks * layout.block_bytes;
  const size_t sums = layout.checksums_offset +
                      plane * kSegmentBlocks * sizeof(wire::PartChecksums);
  const size_t first = sums / kSsdPageBytes * kSsdPageBytes;
  const size_t pages =
      std::min(2 * kSsdPageBytes, layout.summary_bytes - first);
  std::byte* summary = buffer.data() + plane_bytes;
  FC_RETURN_IF_ERROR(
      io_->Read(place, plane * plane_bytes, plane_bytes, buffer.data()));
  FC_RETURN_IF_ERROR(
      io_->Read(place, layout.summary_offset + first, pages, summary));
  *bytes += plane_bytes + pages;
  const size_t part = place.record.geometry.PartBytes();
  for (int b = 0; b < kSegmentBlocks; ++b) {
    wire::PartChecksums want;
    std::memcpy(&want, summary + (sums - first) + b * sizeof(want),
                sizeof(want));
    const std::byte* block = buffer.data() + b * layout.block_bytes;
    if (Crc32c({block, part}) != want.k ||
        Crc32c({block + part, part}) != want.v) {
      return absl::DataLossError(absl::StrCat(
          "block ", b, " of plane ", plane, " does not match its checksum"));
    }
  }
  return absl::OkStatus();
}

}  // namespace forecache
