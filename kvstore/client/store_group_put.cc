// The part of StoreGroup that puts blocks.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvstore/client/put_payload.h"
#include "kvstore/client/store_group_impl.h"

namespace forecache {
namespace {

// Whether another store may take what this one did not.
bool MayMove(const absl::Status& end) {
  switch (end.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnauthenticated:  // it lost the session
    case absl::StatusCode::kNotFound:         // the session ended meanwhile
    case absl::StatusCode::kResourceExhausted:
      return true;
    default:
      return false;
  }
}

}  // namespace

absl::Status StoreGroup::PutBlocks(const SessionHandle& session, int layer,
                                   int first_block, int block_count,
                                   std::vector<std::byte> payload,
                                   Done done) {
  if (members() == 1) {
    return impl_->members[0].client->PutBlocks(session, layer, first_block,
                                               block_count,
                                               std::move(payload),
                                               std::move(done));
  }
  const size_t block = session.geometry.BlockBytes() +
                       sizeof(wire::PartChecksums);
  if (first_block < 0 || block_count < 1 ||
      first_block > kContextBlocksMax - block_count ||
      payload.size() != block * session.geometry.kv_heads * block_count) {
    return absl::InvalidArgumentError(
        absl::StrCat("blocks ", first_block, " + ", block_count,
                     ", payload of ", payload.size(), " bytes"));
  }
  auto put = std::make_shared<Impl::Put>();
  put->session = session.id;
  put->geometry = session.geometry;
  put->layer = layer;
  put->first = first_block;
  put->count = block_count;
  put->payload = std::move(payload);
  put->done = std::move(done);
  const int from = first_block / kSegmentBlocks;
  const int to = (first_block + block_count - 1) / kSegmentBlocks;
  put->pending = to - from + 1;
  for (int i = from; i <= to; ++i) impl_->PutSegment(put, i, 0);
  return absl::OkStatus();
}

void StoreGroup::Impl::PutSegment(std::shared_ptr<Put> put, int segment,
                                  uint64_t tried) {
  const int from = std::max(put->first, segment * kSegmentBlocks);
  const int to = std::min(put->first + put->count,
                          (segment + 1) * kSegmentBlocks);
  absl::Status why = absl::UnavailableError("no store takes the blocks");
  for (;;) {
    const SegmentPlace place = sessions->Choose(put->session, segment, tried);
    if (place.member < 0) break;
    if (place.held) {  // the same tokens' blocks are there, sealed
      why = absl::OkStatus();
      break;
    }
    why = members[place.member].client->PutBlocks(
        place.handle, put->layer, from, to - from,
        CutPutPayload(put->payload, put->geometry, put->count,
                      from - put->first, to - from),
        [this, put, segment, tried,
         member = place.member](const absl::Status& end) {
          PutEnded(put, segment, member, tried, end);
        });
    if (why.ok()) return;
    if (!MayMove(why)) break;
    tried |= uint64_t{1} << place.member;
    sessions->Leave(put->session, segment, place.member);
    ++counters.puts_moved;
  }
  // Not from inside the call that puts.
  deferred.push_back([this, put, why] { EndSegment(put.get(), why); });
}

void StoreGroup::Impl::PutEnded(std::shared_ptr<Put> put, int segment,
                                int member, uint64_t tried,
                                const absl::Status& end) {
  if (end.ok() || !MayMove(end)) return EndSegment(put.get(), end);
  if (absl::IsUnauthenticated(end)) NotifyLost(member);
  sessions->Leave(put->session, segment, member);
  ++counters.puts_moved;
  PutSegment(std::move(put), segment, tried | uint64_t{1} << member);
}

void StoreGroup::Impl::EndSegment(Put* put, const absl::Status& end) {
  if (put->status.ok()) put->status = end;
  if (--put->pending > 0) return;
  Done done = std::move(put->done);
  if (done) done(put->status);
}

}  // namespace forecache
