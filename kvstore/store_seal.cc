// The part of StoreCore that seals segments.
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status.h"
#include "kvstore/eviction/recompute_cost.h"
#include "kvstore/store.h"

namespace forecache {
namespace {

absl::Status NotItsTokens(size_t segment) {
  return absl::InvalidArgumentError(absl::StrCat(
      "tokens: not the tokens of segment ", segment, " of this session"));
}

}  // namespace

// One seal on its way.
struct StoreCore::Sealing {
  uint64_t session_id = 0;
  size_t number = 0;
  SegmentId id;
  std::vector<SegmentId> ids;        // up to it, as far as tokens were given
  TenantRef owner;
  std::shared_ptr<Segment> segment;  // null when it was sealed before
  Segment::SealClaim claim;
};

// The ids of the segments that `tokens` are of, the last of which is
// `segment`; those that the session knows already must be the same.
absl::StatusOr<std::vector<SegmentId>> StoreCore::ChainIds(
    const Session& session, size_t segment,
    std::span<const uint32_t> tokens) const {
  const size_t count = tokens.size() / kSegmentTokens;
  if (count > segment + 1) return NotItsTokens(segment);
  const size_t first = segment + 1 - count;
  if (first > session.chain.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("tokens: those of segment ", first - 1,
                     " are not known here: send them too"));
  }
  SegmentId parent = first > 0 ? session.chain[first - 1] : kRootSegment;
  std::vector<SegmentId> ids;
  for (size_t i = 0; i < count; ++i) {
    parent = MakeSegmentId(session.OwnerOf(first + i)->secret, session.model,
                           parent,
                           tokens.subspan(i * kSegmentTokens, kSegmentTokens));
    if (first + i < session.chain.size() &&
        session.chain[first + i] != parent) {
      return NotItsTokens(first + i);
    }
    ids.push_back(parent);
  }
  return ids;
}

absl::StatusOr<StoreCore::Sealing> StoreCore::BeginSeal(
    uint64_t session_id, uint32_t segment, std::span<const uint32_t> tokens,
    TenantId caller) {
  Sealing sealing;
  sealing.session_id = session_id;
  sealing.number = segment;
  absl::MutexLock lock(&mu_);
  FC_ASSIGN_OR_RETURN(Session * session, FindSession(session_id, caller));
  const SegmentTable& table = *session->segments;
  if (segment >= table.size() || table[segment].view == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", segment, " holds no blocks"));
  }
  if (segment > 0 && !session->scattered && !table[segment - 1].sealed()) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", segment - 1, " is not sealed"));
  }
  // Wrong tokens would give wrong KV to whoever finds the segment later.
  FC_ASSIGN_OR_RETURN(sealing.ids, ChainIds(*session, segment, tokens));
  sealing.id = sealing.ids.back();
  if (table[segment].sealed() && table[segment].pin->id != sealing.id) {
    return NotItsTokens(segment);
  }
  sealing.owner = session->OwnerOf(segment);
  sealing.segment = table[segment].open;
  return sealing;
}

absl::StatusOr<SealResult> StoreCore::FinishSeal(const Sealing& sealing) {
  absl::MutexLock lock(&mu_);
  Session* session = sessions_.Find(sealing.session_id, clock_->Now());
  if (session == nullptr) {
    return absl::NotFoundError("the session ended during the seal");
  }
  if ((*session->segments)[sealing.number].sealed()) {
    // By a request that came first.
    return SealResult{sealing.id, true, ssd_index_.Contains(sealing.id)};
  }
  bool held = index_.Contains(sealing.id);
  if (!held && !sealing.segment->sealed()) {
    return absl::AbortedError("the segment that was held is gone");
  }
  const bool on_ssd = ssd_index_.Contains(sealing.id);
  SegmentRef ref;
  SegmentOrigin origin;
  if (held) {
    ref.pin = index_.Pin(sealing.id);
  } else {
    // The nearest ancestor that lies here: it must not go before this one.
    const TenantId owner = session->OwnerOf(sealing.number)->id;
    origin = {session->SealedBefore(sealing.number), session->model,
              tenants_.NameOf(owner)};
    FC_RETURN_IF_ERROR(tier_->Put(sealing.id, origin, sealing.segment));
    const size_t bytes = sealing.segment->bytes();
    ref.pin = index_.Insert(
        sealing.id, origin.parent, owner, bytes,
        WorthOf(sealing.segment->geometry(), sealing.number, bytes));
  }
  auto view = tier_->Pin(sealing.id);
  FC_CHECK_OK(view.status());  // the index and the tier change together
  ref.view = *std::move(view);
  if (!held && !on_ssd) Demote(ref.pin, std::move(origin), ref.view);
  session->SetSegment(sealing.number, std::move(ref));
  const size_t first = sealing.number + 1 - sealing.ids.size();
  for (size_t i = session->chain.size(); i <= sealing.number; ++i) {
    session->chain.push_back(sealing.ids[i - first]);
  }
  return SealResult{sealing.id, held || on_ssd, on_ssd};
}

absl::StatusOr<SealResult> StoreCore::SealSegment(
    uint64_t session_id, uint32_t segment, std::span<const uint32_t> tokens,
    TenantId caller) {
  if (tokens.empty() || tokens.size() % kSegmentTokens != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens has ", tokens.size(), ", must have ",
                     kSegmentTokens, " of each segment"));
  }
  FC_ASSIGN_OR_RETURN(Sealing sealing,
                      BeginSeal(session_id, segment, tokens, caller));
  if (sealing.segment == nullptr) {
    absl::MutexLock lock(&mu_);
    return SealResult{sealing.id, true, ssd_index_.Contains(sealing.id)};
  }
  sealing.claim = Segment::SealClaim(sealing.segment.get());
  if (!sealing.claim.held()) {
    return absl::AbortedError(
        absl::StrCat("segment ", segment, " is being sealed"));
  }
  FC_RETURN_IF_ERROR(
      Annotate(sealing.segment->Verify(), absl::StrCat("segment ", segment)));
  bool held;
  {
    absl::MutexLock lock(&mu_);
    held = index_.Contains(sealing.id);
  }
  // Code planes are dear: not for a copy that will be let go.
  auto seal = [&] { return sealing.segment->Seal(); };
  const auto make_room = [&] {
    if (sealing.segment->sealed()) return absl::OkStatus();
    return MakeRoomFor(*sealing.owner,
                       Segment::CodeBytes(sealing.segment->geometry(),
                                          sealing.segment->code_kind()),
                       RoomWait::kForSsd, &sealing.segment->charge(), seal);
  };
  if (!held) FC_RETURN_IF_ERROR(make_room());
  auto result = FinishSeal(sealing);
  if (held && result.status().code() == absl::StatusCode::kAborted) {
    // Evicted meanwhile: so this copy is the one to keep.
    FC_RETURN_IF_ERROR(make_room());
    result = FinishSeal(sealing);
  }
  if (result.ok()) {
    (result->already_held ? metrics_.segments_deduplicated
                          : metrics_.segments_sealed)
        ->Add();
  }
  return result;
}

}  // namespace forecache
