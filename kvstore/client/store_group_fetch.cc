// The part of StoreGroup that fetches blocks, and what fetches and corrections
// share: calls of several parts.
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvstore/client/store_group_impl.h"

namespace forecache {

absl::Status StoreGroup::Impl::Part::Told(const absl::Status& why) {
  const bool ours = absl::IsCancelled(why) && !given_up.ok();
  const absl::Status& told = ours ? given_up : why;
  switch (told.code()) {
    case absl::StatusCode::kOk:
    case absl::StatusCode::kDataLoss:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kCancelled:
      return told;
    case absl::StatusCode::kUnauthenticated:
      impl->NotifyLost(member);  // it lost the session: to be opened again
      break;
    default:
      break;
  }
  ++impl->counters.blocks_unavailable;
  return absl::IsDeadlineExceeded(told)
             ? told
             : absl::UnavailableError(told.message());
}

// Threads: as StoreGroup.
struct StoreGroup::Impl::FetchPart : Part, BlockSink {
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    sink->OnBlock(layer, entry, k, v);
  }
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override {
    sink->OnBlockFailed(layer, entry, Told(why));
  }
  void FailAll(const absl::Status& why) override {
    for (const wire::FetchEntry& entry : entries) {
      OnBlockFailed(entry.layer, entry, why);
    }
  }

  BlockSink* sink = nullptr;
  std::vector<wire::FetchEntry> entries;
};

void StoreGroup::Impl::AddCall(std::unique_ptr<Call> call) {
  call->id = next_id++;
  const uint64_t id = call->id;
  calls[id] = std::move(call);
}

void StoreGroup::Impl::PartStarted(Call* call, std::unique_ptr<Part> part,
                                   const absl::StatusOr<uint64_t>& request) {
  Part* started = part.get();
  call->parts.push_back(std::move(part));
  ++call->pending;
  if (request.ok()) {
    started->request = *request;
    return;
  }
  // Sinks hear nothing from inside the call that asks.
  deferred.push_back([this, id = call->id, started, why = request.status()] {
    if (!calls.contains(id) || started->ended) return;
    const absl::Status end = started->given_up.ok() ? why : started->given_up;
    started->FailAll(end);
    PartEnded(id, started, end);
  });
}

void StoreGroup::Impl::PartEnded(uint64_t id, Part* part,
                                 const absl::Status& end) {
  auto found = calls.find(id);
  if (found == calls.end() || part->ended) return;
  part->ended = true;
  Call* call = found->second.get();
  // A member's failure was told block by block; the rest concerns the call.
  const bool whole = absl::IsCancelled(end) && part->given_up.ok();
  if ((whole || absl::IsInvalidArgument(end)) && call->status.ok()) {
    call->status = end;
  }
  if (--call->pending > 0) return;
  const std::unique_ptr<Call> ended = std::move(found->second);
  calls.erase(found);
  ended->Finish();
  if (ended->done) ended->done(ended->status);
}

void StoreGroup::Impl::GiveUpParts(int member) {
  std::vector<uint64_t> requests;
  for (auto& [id, call] : calls) {
    for (auto& part : call->parts) {
      if (part->member != member || part->ended || part->request == 0) continue;
      part->given_up = Unavailable(member);
      requests.push_back(part->request);
    }
  }
  for (uint64_t request : requests) members[member].client->Cancel(request);
}

void StoreGroup::Cancel(uint64_t request_id) {
  if (members() == 1) return impl_->members[0].client->Cancel(request_id);
  auto found = impl_->calls.find(request_id);
  if (found == impl_->calls.end()) return impl_->CancelProbe(request_id);
  const absl::Status why = absl::CancelledError("cancelled by the worker");
  Impl::Call* call = found->second.get();
  std::vector<std::pair<int, uint64_t>> requests;
  std::vector<Impl::Part*> unsent;
  for (auto& part : call->parts) {
    if (part->ended) continue;
    if (part->request == 0) {
      unsent.push_back(part.get());
    } else {
      requests.emplace_back(part->member, part->request);
    }
  }
  // The call ends with its last part, and with it all of them.
  for (Impl::Part* part : unsent) {
    part->FailAll(why);
    impl_->PartEnded(request_id, part, why);
  }
  for (auto& [member, request] : requests) {
    impl_->members[member].client->Cancel(request);
  }
}

absl::StatusOr<uint64_t> StoreGroup::Fetch(
    const SessionHandle& session, int layer,
    std::span<const wire::FetchEntry> entries, BlockSink* sink, Done done) {
  if (members() == 1) {
    return impl_->members[0].client->Fetch(session, layer, entries, sink,
                                           std::move(done));
  }
  if (layer < 0 || layer >= session.geometry.layers) {
    return absl::InvalidArgumentError(absl::StrCat(
        "layer is ", layer, ", must be below ", session.geometry.layers));
  }
  std::vector<wire::FetchEntry> of_layer(entries.begin(), entries.end());
  for (wire::FetchEntry& entry : of_layer) {
    entry.layer = static_cast<uint16_t>(layer);
  }
  return FetchLayers(session, of_layer, sink, std::move(done));
}

absl::StatusOr<uint64_t> StoreGroup::FetchLayers(
    const SessionHandle& session, std::span<const wire::FetchEntry> entries,
    BlockSink* sink, Done done) {
  if (members() == 1) {
    return impl_->members[0].client->FetchLayers(session, entries, sink,
                                                 std::move(done));
  }
  if (entries.empty()) return absl::InvalidArgumentError("entries has none");
  std::map<int, std::unique_ptr<Impl::FetchPart>> parts;  // by member
  std::vector<SegmentPlace> places;  // by segment, member -2: not looked up
  std::vector<SessionHandle> handles(members());
  for (const wire::FetchEntry& entry : entries) {
    if (entry.block >= static_cast<uint32_t>(kContextBlocksMax)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "block is ", entry.block, ", must be below ", kContextBlocksMax));
    }
    const size_t segment = entry.block / kSegmentBlocks;
    if (places.size() <= segment) places.resize(segment + 1, {.member = -2});
    SegmentPlace& place = places[segment];
    if (place.member == -2) {
      place = impl_->sessions->Find(session.id, static_cast<int>(segment));
      if (place.member >= 0) handles[place.member] = place.handle;
    }
    auto& part = parts[place.member];
    if (part == nullptr) part = std::make_unique<Impl::FetchPart>();
    part->entries.push_back(entry);
  }
  auto added = std::make_unique<Impl::Call>();
  Impl::Call* call = added.get();
  call->done = std::move(done);
  impl_->AddCall(std::move(added));
  const uint64_t id = call->id;
  for (auto& [member, part] : parts) {
    part->impl = impl_.get();
    part->member = member;
    part->sink = sink;
    absl::StatusOr<uint64_t> request = impl_->Unavailable(member);
    if (member >= 0 && impl_->IsUp(member)) {
      request = impl_->members[member].client->FetchLayers(
          handles[member], part->entries, part.get(),
          [impl = impl_.get(), id, part = part.get()](
              const absl::Status& end) { impl->PartEnded(id, part, end); });
    }
    impl_->PartStarted(call, std::move(part), request);
  }
  return id;
}

}  // namespace forecache
