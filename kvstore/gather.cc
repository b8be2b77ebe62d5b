#include "kvstore/gather.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/limits.h"

namespace forecache {

using wire::BlockStatus;
using wire::FetchEntry;
using wire::PushEntry;

size_t PushEntriesMax(const KvGeometry& geometry) {
  return kPushBytesMax / (sizeof(PushEntry) + geometry.BlockBytes());
}

size_t PushBytes(const KvGeometry& geometry, size_t entries) {
  return std::min(entries, PushEntriesMax(geometry)) *
         (sizeof(PushEntry) + geometry.BlockBytes());
}

absl::Status ValidateFetch(const KvGeometry& geometry,
                           std::span<const FetchEntry> entries) {
  if (entries.empty()) return absl::InvalidArgumentError("count is 0");
  for (const FetchEntry& entry : entries) {
    if (entry.layer >= geometry.layers) {
      return absl::InvalidArgumentError(absl::StrCat(
          "layer is ", entry.layer, ", must be below ", geometry.layers));
    }
    if (entry.kv_head >= geometry.kv_heads) {
      return absl::InvalidArgumentError(
          absl::StrCat("kv_head is ", entry.kv_head, ", must be below ",
                       geometry.kv_heads));
    }
    if (entry.block >= static_cast<uint32_t>(kContextBlocksMax)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "block is ", entry.block, ", must be below ", kContextBlocksMax));
    }
  }
  return absl::OkStatus();
}

namespace {

const SegmentView* ViewOf(const SessionSnapshot& session, uint32_t block) {
  const size_t number = block / kSegmentBlocks;
  if (number >= session.segments->size()) return nullptr;
  return (*session.segments)[number].view.get();
}

BlockPlace PlaceOf(const SessionSnapshot& session, const FetchEntry& entry) {
  const SegmentView* view = ViewOf(session, entry.block);
  if (view == nullptr) return {};
  return view->Place(entry.layer, entry.kv_head,
                     static_cast<int>(entry.block % kSegmentBlocks));
}

}  // namespace

bool NeedsDevice(const SessionSnapshot& session,
                 std::span<const FetchEntry> entries) {
  const SegmentTable& segments = *session.segments;
  const size_t count =
      std::min(entries.size(), PushEntriesMax(session.geometry));
  return std::ranges::any_of(entries.first(count), [&](const FetchEntry& one) {
    const size_t number = one.block / kSegmentBlocks;
    return number < segments.size() && segments[number].on_ssd;
  });
}

// Reads entries [begin, end), which lie in one layer of one segment.
void Gatherer::ReadRun(const SessionSnapshot& session,
                       std::span<const FetchEntry> entries, size_t begin,
                       size_t end) {
  const SegmentView* view = ViewOf(session, entries[begin].block);
  if (view == nullptr) return;
  view->StartRead(entries[begin].layer,
                  std::span(reads_).subspan(begin, end - begin), &pending_);
}

PackedPush Gatherer::Pack(const SessionSnapshot& session,
                          std::span<const FetchEntry> entries,
                          MutableBytes payload, std::vector<int>* damaged) {
  FC_CHECK(payload.size() >= PushBytes(session.geometry, entries.size()));
  const size_t part = session.geometry.PartBytes();
  PackedPush push;
  push.entries = std::min(entries.size(), PushEntriesMax(session.geometry));
  push.table_bytes = push.entries * sizeof(PushEntry);
  std::byte* table = payload.data();
  std::byte* next = table + push.table_bytes;
  reads_.resize(push.entries);
  for (size_t i = 0; i < push.entries; ++i) {
    std::byte* k = next + i * 2 * part;
    reads_[i] = BlockRead{entries[i].kv_head,
                          static_cast<int>(entries[i].block % kSegmentBlocks),
                          k,
                          k + part,
                          i + 1 < push.entries
                              ? PlaceOf(session, entries[i + 1])
                              : BlockPlace(),
                          {},
                          BlockStatus::kNotFound};
  }
  for (size_t begin = 0, end; begin < push.entries; begin = end) {
    uint32_t number = entries[begin].block / kSegmentBlocks;
    for (end = begin + 1; end < push.entries; ++end) {
      if (entries[end].block / kSegmentBlocks != number ||
          entries[end].layer != entries[begin].layer) {
        break;
      }
    }
    ReadRun(session, entries, begin, end);
  }
  if (pending_ != nullptr) pending_->Finish();
  pending_ = nullptr;
  for (size_t i = 0; i < push.entries; ++i) {
    const BlockRead& read = reads_[i];
    PushEntry entry{entries[i].block,      entries[i].kv_head,
                    static_cast<uint16_t>(read.status),
                    entries[i].slot,       entries[i].generation,
                    read.checksums,       entries[i].layer};
    std::memcpy(table + i * sizeof(entry), &entry, sizeof(entry));
    if (read.status == BlockStatus::kDataLoss) {
      ++push.lost;
      damaged->push_back(entries[i].block / kSegmentBlocks);
    }
    if (read.status != BlockStatus::kOk) continue;
    // Blocks that failed leave gaps, which those behind them close.
    if (next != read.k) std::memmove(next, read.k, 2 * part);
    next += 2 * part;
    ++push.blocks;
  }
  push.bytes = next - payload.data();
  return push;
}

}  // namespace forecache
