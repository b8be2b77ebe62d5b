// The part of StoreCore that seals segments.
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status.h"
#include "kvstore/store.h"

namespace forecache {

// One seal on its way.
struct StoreCore::Sealing {
  uint64_t session_id = 0;
  size_t number = 0;
  SegmentId id;
  SegmentId parent;
  std::shared_ptr<Segment> segment;  // null when it was sealed before
  Segment::SealClaim claim;
};

absl::StatusOr<StoreCore::Sealing> StoreCore::BeginSeal(
    uint64_t session_id, uint32_t segment, std::span<const uint32_t> tokens) {
  Sealing sealing;
  sealing.session_id = session_id;
  sealing.number = segment;
  absl::MutexLock lock(&mu_);
  Session* session = sessions_.Find(session_id, clock_->Now());
  if (session == nullptr) {
    return absl::NotFoundError(
        absl::StrCat("session_id: ", session_id, " is unknown or has ended"));
  }
  const SegmentTable& table = *session->segments;
  if (segment >= table.size() || table[segment].view == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", segment, " holds no blocks"));
  }
  if (segment > 0 && !table[segment - 1].sealed()) {
    return absl::FailedPreconditionError(
        absl::StrCat("segment ", segment - 1, " is not sealed"));
  }
  sealing.parent = segment > 0 ? table[segment - 1].pin->id : kRootSegment;
  sealing.id = MakeSegmentId(options_.tenant_secret, session->model,
                             sealing.parent, tokens);
  // Wrong tokens would give wrong KV to whoever finds the segment later.
  bool expected = true;
  if (table[segment].sealed()) {
    expected = table[segment].pin->id == sealing.id;
  } else if (segment < session->prompt.size()) {
    expected = session->prompt[segment] == sealing.id;
  }
  if (!expected) {
    return absl::InvalidArgumentError(absl::StrCat(
        "tokens: not the tokens of segment ", segment, " of this session"));
  }
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
    return SealResult{sealing.id, true};  // by a request that came first
  }
  bool held = index_.Contains(sealing.id);
  if (!held && !sealing.segment->sealed()) {
    return absl::AbortedError("the segment that was held is gone");
  }
  SegmentRef ref;
  if (held) {
    ref.pin = index_.Pin(sealing.id);
  } else {
    FC_RETURN_IF_ERROR(tier_->Put(sealing.id, sealing.segment));
    ref.pin = index_.Insert(sealing.id, sealing.parent);
  }
  auto view = tier_->Pin(sealing.id);
  FC_CHECK_OK(view.status());  // the index and the tier change together
  ref.view = *std::move(view);
  session->SetSegment(sealing.number, std::move(ref));
  return SealResult{sealing.id, held};
}

absl::StatusOr<SealResult> StoreCore::SealSegment(
    uint64_t session_id, uint32_t segment, std::span<const uint32_t> tokens) {
  if (tokens.size() != kSegmentTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens has ", tokens.size(), ", must have exactly ",
                     kSegmentTokens));
  }
  FC_ASSIGN_OR_RETURN(Sealing sealing, BeginSeal(session_id, segment, tokens));
  if (sealing.segment == nullptr) return SealResult{sealing.id, true};
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
  auto seal = [&] {
    return sealing.segment->sealed() ? absl::OkStatus()
                                     : sealing.segment->Seal();
  };
  if (!held) FC_RETURN_IF_ERROR(MakeRoomFor(seal));
  auto result = FinishSeal(sealing);
  if (held && result.status().code() == absl::StatusCode::kAborted) {
    // Evicted meanwhile: so this copy is the one to keep.
    FC_RETURN_IF_ERROR(MakeRoomFor(seal));
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
