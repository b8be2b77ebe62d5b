// The part of StoreCore that brings segments back from SSD to memory.
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/log.h"
#include "common/status.h"
#include "kvstore/store.h"

namespace forecache {
namespace {

// What the arena takes for it.
size_t WholePages(size_t bytes) {
  return (bytes + DramArena::kPageBytes - 1) / DramArena::kPageBytes *
         DramArena::kPageBytes;
}

}  // namespace

// Promotion never evicts: it takes only memory that nobody uses.
bool StoreCore::PromoteNext() {
  if (promote_pacer_.Wait(clock_->Now()) > 0) return false;
  Promotion promotion;
  TenantId owner = kDefaultTenant;
  {
    absl::MutexLock lock(&mu_);
    if (work_.promotions.empty()) return false;
    promotion = work_.promotions.front();
    work_.promotions.pop_front();
    const Index::EntryRef on_ssd = ssd_index_.Find(promotion.id);
    if (on_ssd == nullptr || index_.Contains(promotion.id)) return true;
    owner = on_ssd->owner;
  }
  auto segment = ReadSegment(promotion.id, owner);
  if (segment.ok()) {
    promote_pacer_.Passed((*segment)->bytes(), clock_->Now());
    Promoted(promotion, *std::move(segment));
    return true;
  }
  if (absl::IsResourceExhausted(segment.status())) {
    absl::MutexLock lock(&mu_);
    work_.promotions.clear();
    return true;
  }
  LogWarning("ssd: a segment was not promoted",
             {{"segment", promotion.id.ToHex()},
              {"why", segment.status().ToString()}});
  return true;
}

absl::StatusOr<std::shared_ptr<Segment>> StoreCore::ReadSegment(
    const SegmentId& id, TenantId owner) {
  FC_ASSIGN_OR_RETURN(auto view, ssd_->Pin(id));
  const KvGeometry& geometry = view->geometry();
  // Room for the next put stays.
  const size_t needed =
      2 * Segment::OpenBytes(geometry) +
      Segment::CodeBytes(geometry, view->code_kind());
  if (arena_->largest_free_bytes() < needed) {
    return absl::ResourceExhaustedError("dram: no room to promote");
  }
  FC_ASSIGN_OR_RETURN(auto segment, Segment::Create(arena_.get(), geometry,
                                                    view->code_kind()));
  TierCharge charge(tenants_.AccountOf(owner), StorageTier::kDram);
  if (!charge.TryGrow(
          WholePages(Segment::OpenBytes(geometry)) +
          WholePages(Segment::CodeBytes(geometry, view->code_kind())))) {
    return absl::ResourceExhaustedError("dram: the tenant is at its ceiling");
  }
  segment->charge() = std::move(charge);
  const size_t part = geometry.PartBytes();
  const size_t heads = geometry.kv_heads;
  const size_t of_block = heads * part;  // of all heads, K or V
  std::vector<std::byte> bytes(2 * kSegmentBlocks * of_block);
  std::vector<BlockRead> reads;
  std::vector<wire::PartChecksums> checksums(heads);
  for (int layer = 0; layer < geometry.layers; ++layer) {
    if (stopping_) return absl::CancelledError("stopping");
    reads.clear();
    for (int head = 0; head < geometry.kv_heads; ++head) {
      for (int block = 0; block < kSegmentBlocks; ++block) {
        std::byte* k = bytes.data() + 2 * block * of_block + head * part;
        reads.push_back({head, block, k, k + of_block});
      }
    }
    view->Read(layer, reads);
    for (int block = 0; block < kSegmentBlocks; ++block) {
      for (size_t head = 0; head < heads; ++head) {
        const BlockRead& read = reads[head * kSegmentBlocks + block];
        if (read.status != wire::BlockStatus::kOk) {
          return absl::DataLossError("a block is damaged");
        }
        checksums[head] = read.checksums;
      }
      const std::byte* k = bytes.data() + 2 * block * of_block;
      FC_RETURN_IF_ERROR(segment->PutBlock(
          layer, block,
          {reinterpret_cast<const std::byte*>(checksums.data()),
           sizeof(wire::PartChecksums), k, k + of_block, part}));
    }
  }
  FC_RETURN_IF_ERROR(segment->Seal());
  return segment;
}

void StoreCore::Promoted(const Promotion& promotion,
                         std::shared_ptr<Segment> segment) {
  absl::MutexLock lock(&mu_);
  const Index::EntryRef on_ssd = ssd_index_.Find(promotion.id);
  // Sealed anew, or dropped, meanwhile.
  if (on_ssd == nullptr || index_.Contains(promotion.id)) return;
  const size_t bytes = segment->bytes();
  FC_CHECK_OK(tier_->Put(promotion.id, {}, std::move(segment)));
  const Index::EntryRef entry =
      index_.Insert(promotion.id, on_ssd->parent, on_ssd->owner, bytes,
                    on_ssd->worth);
  auto view = tier_->Pin(promotion.id);
  FC_CHECK_OK(view.status());
  // Sessions that read it from SSD go on from memory.
  sessions_.ForEach([&](Session* session) {
    if (session->segments->size() <= promotion.number) return;
    const SegmentRef& ref = (*session->segments)[promotion.number];
    if (!ref.on_ssd || ref.pin != on_ssd) return;
    index_.Hold(entry);
    ssd_index_.Unpin(ref.pin);
    session->SetSegment(promotion.number, {*view, nullptr, entry, false});
  });
  index_.Unpin(entry);
  metrics_.segments_promoted->Add();
}

}  // namespace forecache
