#include "worker/resident_cache.h"

#include <algorithm>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/status.h"

namespace forecache {

ResidentCache::ResidentCache(const KvGeometry& geometry, DeviceArena* arena)
    : geometry_(geometry), arena_(arena) {
  for (int layer = 0; layer < geometry.layers; ++layer) {
    layers_.push_back(std::make_unique<Layer>());
    absl::MutexLock lock(&layers_.back()->mutex);
    layers_.back()->heads.resize(geometry.kv_heads);
  }
}

ResidentCache::~ResidentCache() {
  for (auto& layer : layers_) {
    absl::MutexLock lock(&layer->mutex);
    for (Head& head : layer->heads) {
      for (const Page& page : head.pages) Release(page.lease);
      for (const SlotLease& lease : head.offered) Release(lease);
      if (head.open.lease.slot >= 0) Release(head.open.lease);
    }
  }
}

absl::StatusOr<SlotLease> ResidentCache::Take() {
  FC_ASSIGN_OR_RETURN(SlotLease lease, arena_->Allocate());
  const int held = ++held_;
  int peak = peak_.load();
  while (held > peak && !peak_.compare_exchange_weak(peak, held)) {
  }
  return lease;
}

void ResidentCache::Release(const SlotLease& lease) {
  arena_->Free(lease);
  --held_;
}

absl::Status ResidentCache::Retarget(int layer, int kv_head,
                                     std::span<const int32_t> wanted,
                                     std::vector<wire::FetchEntry>* missing) {
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  Head& head = at.heads[kv_head];
  // Evict first: the slots that come free are the ones taken below, so that a
  // session never holds more than its budget.
  std::erase_if(head.pages, [&](const Page& page) {
    if (std::binary_search(wanted.begin(), wanted.end(), page.block)) {
      return false;
    }
    Release(page.lease);
    return true;
  });
  const size_t kept = head.pages.size();
  for (int32_t block : wanted) {
    const auto end = head.pages.begin() + kept;
    const auto page = std::lower_bound(
        head.pages.begin(), end, block,
        [](const Page& page, int32_t block) { return page.block < block; });
    if (page != end && page->block == block) continue;
    if (std::find(head.lost.begin(), head.lost.end(), block) !=
        head.lost.end()) {
      continue;
    }
    FC_RETURN_IF_ERROR(AddPage(&head, kv_head, block, missing));
  }
  Sort(&head, kept);
  return absl::OkStatus();
}

absl::Status ResidentCache::Offer(int layer, int kv_head, int count,
                                  std::vector<wire::OfferedSlot>* slots) {
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  Head& head = at.heads[kv_head];
  for (int i = 0; i < count; ++i) {
    FC_ASSIGN_OR_RETURN(const SlotLease lease, Take());
    head.offered.push_back(lease);
    slots->push_back({.slot = static_cast<uint32_t>(lease.slot),
                      .generation = lease.generation});
  }
  return absl::OkStatus();
}

bool ResidentCache::EndOffer(Head* head, const wire::OfferedSlot& slot) {
  return std::erase_if(head->offered, [&](const SlotLease& lease) {
           return lease.slot == static_cast<int32_t>(slot.slot) &&
                  lease.generation == slot.generation;
         }) > 0;
}

bool ResidentCache::FillOffered(int layer, const wire::PushEntry& entry,
                                ByteView k, ByteView v) {
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  Head& head = at.heads[entry.kv_head];
  if (!EndOffer(&head, {entry.slot, entry.generation})) return false;
  const SlotLease lease{static_cast<int32_t>(entry.slot), entry.generation};
  const int32_t block = static_cast<int32_t>(entry.block);
  for (const Page& page : head.pages) {
    if (page.block != block) continue;
    Release(lease);  // chosen for the bulk meanwhile
    return false;
  }
  arena_->WriteBlock(lease.slot, k, v);
  head.pages.push_back({.block = block,
                        .lease = lease,
                        .ready = true,
                        .fetched = true,
                        .checksums = entry.checksums});
  Sort(&head, head.pages.size() - 1);
  return true;
}

void ResidentCache::TakeBack(int layer, int kv_head,
                             const wire::OfferedSlot& slot) {
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  if (!EndOffer(&at.heads[kv_head], slot)) return;
  Release({static_cast<int32_t>(slot.slot), slot.generation});
}

absl::Status ResidentCache::AddPage(Head* head, int kv_head, int32_t block,
                                    std::vector<wire::FetchEntry>* missing) {
  FC_ASSIGN_OR_RETURN(SlotLease lease, Take());
  head->pages.push_back({.block = block, .lease = lease});
  missing->push_back({.block = static_cast<uint32_t>(block),
                      .kv_head = static_cast<uint16_t>(kv_head),
                      .slot = static_cast<uint32_t>(lease.slot),
                      .generation = lease.generation});
  return absl::OkStatus();
}

// The first `sorted` pages are in order already.
void ResidentCache::Sort(Head* head, size_t sorted) {
  const auto by_block = [](const Page& a, const Page& b) {
    return a.block < b.block;
  };
  const auto middle = head->pages.begin() + sorted;
  std::sort(middle, head->pages.end(), by_block);
  std::inplace_merge(head->pages.begin(), middle, head->pages.end(), by_block);
}

bool ResidentCache::Fill(int layer, const wire::PushEntry& entry, ByteView k,
                         ByteView v) {
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  Head& head = at.heads[entry.kv_head];
  const int32_t block = static_cast<int32_t>(entry.block);
  for (Page& page : head.pages) {
    if (page.block != block) continue;
    if (page.ready || page.lease.slot != static_cast<int32_t>(entry.slot) ||
        page.lease.generation != entry.generation) {
      return false;
    }
    arena_->WriteBlock(page.lease.slot, k, v);
    page.checksums = entry.checksums;
    page.fetched = true;
    page.ready = true;
    return true;
  }
  return false;
}

void ResidentCache::MarkLost(int layer, const wire::FetchEntry& entry) {
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  Head& head = at.heads[entry.kv_head];
  const int32_t block = static_cast<int32_t>(entry.block);
  std::erase_if(head.pages, [&](const Page& page) {
    if (page.block != block || page.ready) return false;
    Release(page.lease);
    return true;
  });
  head.lost.push_back(block);
}

void ResidentCache::Withdraw(int layer, const wire::FetchEntry& entry) {
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  std::erase_if(at.heads[entry.kv_head].pages, [&](const Page& page) {
    const bool is_it =
        !page.ready && page.lease.slot == static_cast<int32_t>(entry.slot) &&
        page.lease.generation == entry.generation;
    if (is_it) Release(page.lease);
    return is_it;
  });
}

absl::Status ResidentCache::Append(int layer, int position, const float* k,
                                   const float* v) {
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  const int token = position % kBlockTokens;
  FC_CHECK(token == at.open_tokens) << "layer " << layer << " position "
                                    << position;
  for (int h = 0; h < geometry_.kv_heads; ++h) {
    Head& head = at.heads[h];
    if (token == 0) {
      FC_CHECK(head.open.lease.slot < 0);
      FC_ASSIGN_OR_RETURN(SlotLease lease, Take());
      head.open = {.block = position / kBlockTokens, .lease = lease};
    }
    FC_CHECK(head.open.block == position / kBlockTokens);
    const size_t row = size_t(h) * geometry_.head_dim;
    arena_->WriteTokens(head.open.lease.slot, token, 1, k + row, v + row, 0);
  }
  ++at.open_tokens;
  return absl::OkStatus();
}

absl::Status ResidentCache::AdoptOpenBlock(int layer, int block, int tokens,
                                           const DeviceArena& from,
                                           std::span<const int32_t> slots) {
  FC_CHECK(tokens > 0 && tokens < kBlockTokens) << tokens;
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  FC_CHECK(at.open_tokens == 0) << "layer " << layer;
  for (int h = 0; h < geometry_.kv_heads; ++h) {
    FC_ASSIGN_OR_RETURN(SlotLease lease, Take());
    const ByteView bytes = from.ReadBlock(slots[h]);
    arena_->WriteBlock(lease.slot, bytes.first(geometry_.PartBytes()),
                       bytes.subspan(geometry_.PartBytes()));
    at.heads[h].open = {.block = block, .lease = lease};
  }
  at.open_tokens = tokens;
  return absl::OkStatus();
}

std::vector<int32_t> ResidentCache::CloseOpenBlock(int layer) {
  Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  FC_CHECK(at.open_tokens == kBlockTokens) << at.open_tokens;
  std::vector<int32_t> slots;
  for (Head& head : at.heads) {
    slots.push_back(head.open.lease.slot);
    head.open.ready = true;
    head.pages.push_back(head.open);  // the newest block: order is kept
    head.open = Page{};
  }
  at.open_tokens = 0;
  return slots;
}

void ResidentCache::BuildTables(int layer, LayerTables* out) const {
  out->slots.resize(geometry_.kv_heads);
  out->blocks.resize(geometry_.kv_heads);
  out->tables.resize(geometry_.kv_heads);
  const Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  for (int h = 0; h < geometry_.kv_heads; ++h) {
    const Head& head = at.heads[h];
    std::vector<int32_t>& slots = out->slots[h];
    std::vector<int32_t>& blocks = out->blocks[h];
    slots.clear();
    blocks.clear();
    for (const Page& page : head.pages) {
      if (!page.ready) continue;
      slots.push_back(page.lease.slot);
      blocks.push_back(page.block);
    }
    int last_tokens = slots.empty() ? 0 : kBlockTokens;
    if (head.open.lease.slot >= 0) {
      slots.push_back(head.open.lease.slot);
      blocks.push_back(head.open.block);
      last_tokens = at.open_tokens;
    }
    out->tables[h] = {.slots = slots.data(),
                      .pages = static_cast<int>(slots.size()),
                      .last_page_tokens = last_tokens};
  }
}

void ResidentCache::ReadyBlocks(int layer, int kv_head,
                                std::vector<int32_t>* blocks) const {
  blocks->clear();
  const Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  for (const Page& page : at.heads[kv_head].pages) {
    if (page.ready) blocks->push_back(page.block);
  }
  const Page& open = at.heads[kv_head].open;
  if (open.lease.slot >= 0) blocks->push_back(open.block);
}

void ResidentCache::HeldBlocks(int layer, int kv_head,
                               std::vector<int32_t>* blocks) const {
  const Layer& at = *layers_[layer];
  absl::MutexLock lock(&at.mutex);
  const Head& head = at.heads[kv_head];
  blocks->assign(head.lost.begin(), head.lost.end());
  for (const Page& page : head.pages) blocks->push_back(page.block);
  std::sort(blocks->begin(), blocks->end());
}

int ResidentCache::Audit() const {
  int wrong = 0;
  for (const auto& layer : layers_) {
    absl::MutexLock lock(&layer->mutex);
    for (const Head& head : layer->heads) {
      for (const Page& page : head.pages) {
        if (!page.fetched) continue;
        const ByteView bytes = arena_->ReadBlock(page.lease.slot);
        const size_t part = geometry_.PartBytes();
        if (Crc32c(bytes.first(part)) != page.checksums.k ||
            Crc32c(bytes.subspan(part)) != page.checksums.v) {
          ++wrong;
        }
      }
    }
  }
  return wrong;
}

size_t ResidentCache::bytes() const {
  return size_t(held_.load()) * arena_->slot_bytes();
}

size_t ResidentCache::peak_bytes() const {
  return size_t(peak_.load()) * arena_->slot_bytes();
}

size_t ResidentCache::table_bytes() const {
  size_t bytes = 0;
  for (const auto& layer : layers_) {
    absl::MutexLock lock(&layer->mutex);
    bytes += sizeof(Layer) + layer->heads.capacity() * sizeof(Head);
    for (const Head& head : layer->heads) {
      bytes += head.pages.capacity() * sizeof(Page);
    }
  }
  return bytes;
}

}  // namespace forecache
