// The SSD tier as disk_bench drives it.
#include <cstring>
#include <unordered_map>
#include <utility>
#include <vector>

#include "bench/disk_engines.h"
#include "common/metrics.h"
#include "common/status.h"
#include "kvstore/ssd/ssd_tier.h"
#include "kvstore/ssd/uring_disk.h"

namespace forecache {
namespace {

SegmentId IdOf(int segment) {
  SegmentId id;
  std::memcpy(id.bytes.data(), &segment, sizeof(segment));
  return id;
}

class ExtentsEngine : public DiskEngine {
 public:
  ExtentsEngine(const KvGeometry& geometry, std::unique_ptr<Metrics> metrics,
                std::unique_ptr<SsdTier> tier)
      : geometry_(geometry),
        metrics_(std::move(metrics)),
        tier_(std::move(tier)) {}

  absl::Status Write(int segment, const Segment& from) override {
    return tier_->Write(IdOf(segment), {}, from, [](size_t) { return true; });
  }
  absl::Status Drop(int segment) override {
    pins_.erase(segment);
    return tier_->Drop(IdOf(segment));
  }
  // A session pins its segments once, so that is no part of a read.
  absl::Status Read(std::span<const DiskBlock> blocks) override {
    const size_t part = geometry_.PartBytes();
    bytes_.resize(blocks.size() * 2 * part);
    reads_.resize(blocks.size());
    std::unique_ptr<PendingReads> pending;
    for (size_t i = 0; i < blocks.size(); ++i) {
      auto& pin = pins_[blocks[i].segment];
      if (pin == nullptr) {
        FC_ASSIGN_OR_RETURN(pin, tier_->Pin(IdOf(blocks[i].segment)));
      }
      std::byte* k = bytes_.data() + i * 2 * part;
      reads_[i] = {blocks[i].kv_head, blocks[i].block, k, k + part};
      pin->StartRead(blocks[i].layer, {&reads_[i], 1}, &pending);
    }
    if (pending != nullptr) pending->Finish();
    for (const BlockRead& read : reads_) {
      if (read.status != wire::BlockStatus::kOk) {
        return absl::DataLossError("a block did not come back");
      }
    }
    return absl::OkStatus();
  }
  void Settle() override { pins_.clear(); }
  uint64_t Bytes() const override {
    return tier_->used_bytes() + tier_->metadata_bytes();
  }

 private:
  const KvGeometry geometry_;
  const std::unique_ptr<Metrics> metrics_;
  const std::unique_ptr<SsdTier> tier_;
  std::unordered_map<int, std::shared_ptr<const SegmentView>> pins_;
  std::vector<BlockRead> reads_;
  std::vector<std::byte> bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<DiskEngine>> OpenExtentsEngine(
    const std::string& folder, const KvGeometry& geometry, size_t capacity,
    DramArena* arena) {
  FC_ASSIGN_OR_RETURN(auto disk, OpenUringDisk(folder));
  auto metrics = std::make_unique<Metrics>();
  FC_ASSIGN_OR_RETURN(auto tier,
                      SsdTier::Open({.capacity_bytes = capacity},
                                    std::move(disk), arena, metrics.get()));
  return std::make_unique<ExtentsEngine>(geometry, std::move(metrics),
                                         std::move(tier));
}

}  // namespace forecache
