// The bounds of `bench store`: see StoreBounds in store_cases.h.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "bench/store_cases.h"
#include "common/status.h"
#include "kvstore/ssd/uring_disk.h"

namespace forecache {
namespace {

constexpr size_t kMemoryBytes = size_t{128} << 20;  // beyond any cache
constexpr size_t kFileBytes = size_t{256} << 20;
constexpr size_t kSmokeBytes = size_t{4} << 20;
constexpr int kCalls = 64;
constexpr size_t kTransportBytes = 64;  // of a request for blocks

Nanos Now() { return Clock::Real()->Now(); }

// Time and rate of calls that move `size` bytes each.
void AddCalls(const std::string& name, size_t size, std::vector<double> us,
              StoreFigures* figures) {
  double sum = 0;
  for (double one : us) sum += one;
  figures->AddRate(name, "", 1e6 * size * us.size() / sum);
  figures->AddTimes(name, std::move(us));
}

}  // namespace

StoreBounds::StoreBounds(TransportPair* pair, bool smoke)
    : pair_(pair),
      calls_(smoke ? 3 : kCalls),
      memory_(smoke ? kSmokeBytes : kMemoryBytes, std::byte{1}),
      pages_(size_t{1} << 20) {
  std::fill_n(pages_.data(), pages_.size(), std::byte{0x5A});
}

absl::StatusOr<std::unique_ptr<StoreBounds>> StoreBounds::Prepare(
    const std::string& folder, TransportPair* pair, bool smoke) {
  std::unique_ptr<StoreBounds> bounds(new StoreBounds(pair, smoke));
  FC_ASSIGN_OR_RETURN(bounds->disk_, OpenUringDisk(folder));
  FC_ASSIGN_OR_RETURN(
      bounds->file_,
      bounds->disk_->OpenFile("raw", smoke ? kSmokeBytes : kFileBytes));
  bounds->queue_ = bounds->file_->NewQueue(kSsdQueueDepth);
  // What was never written costs the disk nothing to read.
  const size_t piece = bounds->pages_.size();
  for (uint64_t at = 0; at < bounds->file_->bytes(); at += piece) {
    FC_RETURN_IF_ERROR(bounds->Move(
        {{DiskOp::Kind::kWrite, at, bounds->pages_.data(), piece}}));
  }
  FC_RETURN_IF_ERROR(bounds->file_->Sync());
  return bounds;
}

absl::Status StoreBounds::Move(std::vector<DiskOp> ops) {
  queue_->Start(ops);
  queue_->Wait();
  for (const DiskOp& op : ops) FC_RETURN_IF_ERROR(op.status);
  return absl::OkStatus();
}

absl::Status StoreBounds::Measure(StoreFigures* figures) {
  for (size_t size : kStoreRequestBytes) {
    MeasureCopies(size, figures);
    FC_RETURN_IF_ERROR(MeasureReads(size, figures));
    FC_RETURN_IF_ERROR(MeasureWrites(size, figures));
    FC_RETURN_IF_ERROR(MeasureTransport(size, figures));
  }
  return absl::OkStatus();
}

void StoreBounds::MeasureCopies(size_t size, StoreFigures* figures) {
  std::vector<double> us;
  const size_t blocks = memory_.size() / kStoreBlockBytes;
  for (int call = 0; call < calls_; ++call) {
    std::vector<size_t> from(size / kStoreBlockBytes);
    for (size_t& block : from) block = rng_.Below(blocks);
    const Nanos start = Now();
    for (size_t i = 0; i < from.size(); ++i) {
      std::memcpy(pages_.data() + i * kStoreBlockBytes,
                  memory_.data() + from[i] * kStoreBlockBytes,
                  kStoreBlockBytes);
    }
    us.push_back(1e-3 * (Now() - start));
    KeepAlive(*pages_.data());
  }
  AddCalls("raw/memcpy/" + SizeName(size), size, std::move(us), figures);
}

absl::Status StoreBounds::MeasureReads(size_t size, StoreFigures* figures) {
  std::vector<double> us;
  const uint64_t blocks = file_->bytes() / kStoreBlockBytes;
  for (int call = 0; call < calls_; ++call) {
    std::vector<DiskOp> ops(size / kStoreBlockBytes);
    for (size_t i = 0; i < ops.size(); ++i) {
      ops[i] = {DiskOp::Kind::kRead, rng_.Below(blocks) * kStoreBlockBytes,
                pages_.data() + i * kStoreBlockBytes, kStoreBlockBytes};
    }
    const Nanos start = Now();
    FC_RETURN_IF_ERROR(Move(std::move(ops)));
    us.push_back(1e-3 * (Now() - start));
  }
  AddCalls("raw/disk_read/" + SizeName(size), size, std::move(us), figures);
  return absl::OkStatus();
}

absl::Status StoreBounds::MeasureWrites(size_t size, StoreFigures* figures) {
  std::vector<double> us;
  for (int call = 0; call < calls_; ++call) {
    const uint64_t at = rng_.Below(file_->bytes() / size) * size;
    const Nanos start = Now();
    FC_RETURN_IF_ERROR(
        Move({{DiskOp::Kind::kWrite, at, pages_.data(), size}}));
    FC_RETURN_IF_ERROR(file_->Sync());
    us.push_back(1e-3 * (Now() - start));
  }
  AddCalls("raw/disk_write/" + SizeName(size), size, std::move(us), figures);
  return absl::OkStatus();
}

absl::Status StoreBounds::MeasureTransport(size_t size,
                                           StoreFigures* figures) {
  FC_ASSIGN_OR_RETURN(std::vector<double> gets,
                      pair_->RoundTrips(kTransportBytes, size, calls_));
  AddCalls("raw/reply/" + SizeName(size), size, std::move(gets), figures);
  FC_ASSIGN_OR_RETURN(std::vector<double> puts,
                      pair_->RoundTrips(size, kTransportBytes, calls_));
  AddCalls("raw/request/" + SizeName(size), size, std::move(puts), figures);
  return absl::OkStatus();
}

}  // namespace forecache
