// The part of StoreCore that works on blocks.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "common/status.h"
#include "kvstore/store.h"

namespace forecache {
namespace {

// The pieces of a PUT_BLOCKS payload.
struct PutPayload {
  size_t blocks = 0;
  size_t part = 0;
  const std::byte* checksums = nullptr;
  const std::byte* k = nullptr;
  const std::byte* v = nullptr;

  BlockSource Source(size_t block) const {
    return {checksums + block * sizeof(wire::PartChecksums),
            blocks * sizeof(wire::PartChecksums), k + block * part,
            v + block * part, blocks * part};
  }
};

absl::StatusOr<PutPayload> SplitPut(const KvGeometry& geometry, uint32_t layer,
                                    uint32_t first_block, uint32_t block_count,
                                    ByteView payload) {
  if (layer >= static_cast<uint32_t>(geometry.layers)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "layer is ", layer, ", must be below ", geometry.layers));
  }
  if (block_count < 1 || block_count > kContextBlocksMax ||
      first_block > kContextBlocksMax - block_count) {
    return absl::InvalidArgumentError(
        absl::StrCat("blocks ", first_block, " + ", block_count,
                     ": must be at least one, and end by ",
                     kContextBlocksMax));
  }
  const size_t parts = size_t{block_count} * geometry.kv_heads;
  const size_t table = parts * sizeof(wire::PartChecksums);
  const size_t wanted = table + parts * geometry.BlockBytes();
  if (payload.size() != wanted) {
    return absl::InvalidArgumentError(absl::StrCat(
        "payload has ", payload.size(), " bytes, must have ", wanted));
  }
  PutPayload put;
  put.blocks = block_count;
  put.part = geometry.PartBytes();
  put.checksums = payload.data();
  put.k = payload.data() + table;
  put.v = put.k + parts * put.part;
  return put;
}

// How many blocks do not match their checksums.
int DamagedBlocks(const PutPayload& put, int kv_heads) {
  int damaged = 0;
  for (size_t i = 0; i < put.blocks * kv_heads; ++i) {
    wire::PartChecksums want;
    std::memcpy(&want, put.checksums + i * sizeof(want), sizeof(want));
    damaged += Crc32c({put.k + i * put.part, put.part}) != want.k ||
               Crc32c({put.v + i * put.part, put.part}) != want.v;
  }
  return damaged;
}

}  // namespace

absl::StatusOr<std::shared_ptr<Segment>> StoreCore::OpenSegment(
    const SessionSnapshot& session, size_t number, RoomWait wait) {
  auto find = [&](const SegmentTable& table) -> const SegmentRef* {
    if (number >= table.size() || table[number].view == nullptr) return nullptr;
    return &table[number];
  };
  auto open_of =
      [&](const SegmentRef& ref) -> absl::StatusOr<std::shared_ptr<Segment>> {
    if (ref.open != nullptr) return ref.open;
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", number, " is sealed"));
  };
  {
    absl::MutexLock lock(&mu_);
    FC_ASSIGN_OR_RETURN(Session * live,
                        FindSession(session.session_id, session.tenant->id));
    if (const SegmentRef* ref = find(*live->segments)) return open_of(*ref);
  }
  FC_ASSIGN_OR_RETURN(const TenantRef owner,
                      OwnerOf(session.session_id, number));
  // What goes to SSD needs memory for its code planes first.
  const size_t wanted =
      Segment::OpenBytes(session.geometry) +
      2 * SegmentLayout(session.geometry, options_.code_kind).summary_bytes;
  std::shared_ptr<Segment> segment;
  TierCharge charge(owner->account, StorageTier::kDram);
  FC_RETURN_IF_ERROR(MakeRoomFor(
      *owner, Segment::OpenBytes(session.geometry), wait, &charge, [&] {
        if (ssd_ != nullptr &&
            arena_->capacity_bytes() - arena_->used_bytes() < wanted) {
          return absl::ResourceExhaustedError("room for code planes is kept");
        }
        auto created = Segment::Create(arena_.get(), session.geometry,
                                       options_.code_kind);
        if (created.ok()) segment = *std::move(created);
        return created.status();
      }));
  segment->charge() = std::move(charge);
  absl::MutexLock lock(&mu_);
  FC_ASSIGN_OR_RETURN(Session * live,
                      FindSession(session.session_id, session.tenant->id));
  // Another put may have been faster.
  if (const SegmentRef* ref = find(*live->segments)) return open_of(*ref);
  live->SetSegment(number, {segment, segment, nullptr});
  return segment;
}

absl::StatusOr<TenantRef> StoreCore::OwnerOf(uint64_t session_id,
                                             size_t number) {
  absl::MutexLock lock(&mu_);
  Session* session = sessions_.Find(session_id, clock_->Now());
  if (session == nullptr) return absl::NotFoundError("the session has ended");
  if (!session->ended.ok()) return session->ended;
  return session->OwnerOf(number);
}

absl::Status StoreCore::PutBlocks(SessionSnapshot session, uint32_t layer,
                                  uint32_t first_block, uint32_t block_count,
                                  ByteView payload, RoomWait wait) {
  session.segments = nullptr;
  FC_ASSIGN_OR_RETURN(PutPayload put,
                      SplitPut(session.geometry, layer, first_block,
                               block_count, payload));
  if (int damaged = DamagedBlocks(put, session.geometry.kv_heads)) {
    metrics_.blocks_refused_put->Add(damaged);
    return absl::DataLossError(
        absl::StrCat(damaged, " of ", put.blocks * session.geometry.kv_heads,
                     " blocks do not match their checksums"));
  }
  std::shared_ptr<Segment> segment;
  size_t opened = SIZE_MAX;
  for (size_t i = 0; i < put.blocks; ++i) {
    size_t number = (first_block + i) / kSegmentBlocks;
    int block = static_cast<int>((first_block + i) % kSegmentBlocks);
    if (number != opened) {
      FC_ASSIGN_OR_RETURN(segment, OpenSegment(session, number, wait));
      opened = number;
    }
    FC_RETURN_IF_ERROR(
        Annotate(segment->PutBlock(layer, block, put.Source(i)),
                 absl::StrCat("layer ", layer, ", block ", first_block + i)));
  }
  // OK for bytes that nobody can read any more would be a lie.
  FC_RETURN_IF_ERROR(
      OwnerOf(session.session_id, first_block / kSegmentBlocks).status());
  metrics_.blocks_put->Add(put.blocks * session.geometry.kv_heads);
  return absl::OkStatus();
}

PackedPush StoreCore::Gather(const SessionSnapshot& session,
                             std::span<const wire::FetchEntry> entries,
                             Gatherer* gatherer, MutableBytes payload) {
  std::vector<int> damaged;  // allocates only when there are any
  PackedPush push = gatherer->Pack(session, entries, payload, &damaged);
  metrics_.blocks_pushed->Add(push.blocks);
  metrics_.bytes_pushed->Add(push.bytes - push.table_bytes);
  tenant_metrics_.Of(session.tenant->id)
      .pushed_bytes->Add(push.bytes - push.table_bytes);
  if (push.lost > 0) {
    metrics_.blocks_refused_read->Add(push.lost);
    for (int number : damaged) Quarantine(session, number);
  }
  return push;
}

void StoreCore::Quarantine(const SessionSnapshot& session, int number) {
  const SegmentRef& ref = (*session.segments)[number];
  if (!ref.sealed()) {
    LogWarning("damaged block in an open segment",
               {{"session", session.session_id}, {"segment", number}});
    return;  // private to its session, which may put the block again
  }
  if (ref.on_ssd) {
    if (!DropFromSsd(ref.pin)) return;
  } else {
    absl::MutexLock lock(&mu_);
    if (!ref.pin->held) return;
    index_.Erase(ref.pin->id);
    FC_CHECK_OK(tier_->Drop(ref.pin->id));
  }
  metrics_.segments_dropped->Add();
  LogWarning("segment dropped: a block does not match its checksum",
             {{"segment", ref.pin->id.ToHex()},
              {"tier", ref.on_ssd ? "ssd" : "dram"},
              {"session", session.session_id}});
}

uint64_t StoreCore::FindByRequest(const std::string& request_id) {
  absl::MutexLock lock(&mu_);
  return sessions_.FindByRequest(request_id);
}

absl::Status StoreCore::CorruptBlock(uint64_t session_id, uint32_t layer,
                                     uint32_t kv_head, uint32_t block,
                                     bool value_part, uint32_t bit) {
  SessionSnapshot session;
  {
    absl::MutexLock lock(&mu_);
    Session* live = sessions_.Find(session_id, clock_->Now());
    if (live == nullptr) {
      return absl::NotFoundError(absl::StrCat("session_id: ", session_id,
                                              " is unknown or has ended"));
    }
    session = live->Snapshot();
  }
  if (layer >= static_cast<uint32_t>(session.geometry.layers)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "layer is ", layer, ", must be below ", session.geometry.layers));
  }
  if (kv_head >= static_cast<uint32_t>(session.geometry.kv_heads)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "kv_head is ", kv_head, ", must be below ", session.geometry.kv_heads));
  }
  size_t number = block / kSegmentBlocks;
  if (number >= session.segments->size() ||
      (*session.segments)[number].view == nullptr) {
    return absl::NotFoundError(absl::StrCat("block ", block, " is not held"));
  }
  return (*session.segments)[number].view->CorruptForTest(
      layer, kv_head, block % kSegmentBlocks, value_part, bit);
}

}  // namespace forecache
