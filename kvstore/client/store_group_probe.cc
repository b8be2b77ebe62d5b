// The part of StoreGroup that probes.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvstore/client/store_group_impl.h"

namespace forecache {

Nanos ProbeShardWait(const KvGeometry& geometry, int blocks) {
  const double bytes =
      double{1} * blocks * geometry.kv_heads * geometry.PartBytes();
  return kProbeShardWait +
         static_cast<Nanos>(bytes / kProbeShardBytesPerSecond * kSecond);
}

absl::StatusOr<uint64_t> StoreGroup::Probe(const SessionHandle& session,
                                           int layer, int blocks, float scale,
                                           std::span<const float> q,
                                           ProbeDone done) {
  if (members() == 1) {
    return impl_->members[0].client->Probe(session, layer, blocks, scale, q,
                                           std::move(done));
  }
  if (blocks < 1 || blocks > kContextBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "blocks is ", blocks, ", must be 1..", kContextBlocksMax));
  }
  if (!impl_->AnyUp()) {
    return absl::UnavailableError("no store of the group is connected");
  }
  auto call = std::make_shared<Impl::ProbeCall>(Impl::ProbeCall{
      .id = impl_->next_id++,
      .merge = ProbeMerge(session.geometry, layer, blocks),
      .deadline = impl_->clock->Now() +
                  ProbeShardWait(session.geometry, blocks)});
  // A store scans one after the other.
  if (!impl_->probes.empty()) {
    call->deadline = std::max(call->deadline, impl_->probes.back()->deadline);
  }
  for (MemberPart& part : impl_->sessions->Parts(session.id, blocks)) {
    const int m = part.member;
    Impl::Member& member = impl_->members[m];
    // Who lags is asked for one probe at a time, and not waited for.
    const bool may_ask =
        impl_->IsUp(m) && !(member.lagging && member.probes_owed > 0);
    if (!may_ask) {
      call->partial = true;
      continue;
    }
    const int end = (part.segments.back() + 1) * kSegmentBlocks;
    const SessionHandle handle = part.handle;
    const auto sent = member.client->Probe(
        handle, layer, std::min(blocks, end), scale, q,
        [impl = impl_.get(), call, part = std::move(part)](
            const absl::StatusOr<ProbeResult>& result) {
          impl->OnScores(call, part, result);
        });
    if (absl::IsInvalidArgument(sent.status())) return sent;
    if (!sent.ok()) {
      call->partial = true;
      continue;
    }
    call->requests.emplace_back(m, *sent);
    ++member.probes_owed;
    if (!member.lagging) call->waits_for.push_back(m);
  }
  call->done = std::move(done);
  const uint64_t id = call->id;
  if (call->waits_for.empty()) {
    impl_->deferred.push_back(
        [impl = impl_.get(), call] { impl->FinishProbe(call.get()); });
  } else {
    impl_->probes.push_back(std::move(call));
  }
  return id;
}

void StoreGroup::Impl::CancelProbe(uint64_t id) {
  const auto found = std::ranges::find_if(
      probes, [id](const auto& call) { return call->id == id; });
  if (found == probes.end() || !(*found)->done) return;
  const std::shared_ptr<ProbeCall> call = *found;
  const ProbeDone done = std::exchange(call->done, nullptr);
  for (const auto& [member, request] : call->requests) {
    members[member].client->Cancel(request);
  }
  done(absl::CancelledError("cancelled by the worker"));
}

void StoreGroup::Impl::OnScores(std::shared_ptr<ProbeCall> call,
                                const MemberPart& part,
                                const absl::StatusOr<ProbeResult>& result) {
  Member& member = members[part.member];
  member.probes_owed = std::max(member.probes_owed - 1, 0);
  if (result.ok()) member.lagging = false;
  if (absl::IsUnauthenticated(result.status())) NotifyLost(part.member);
  if (!call->done) return;  // it went on without this one
  if (result.ok()) {
    call->merge.Add(*result, part.segments);
  } else {
    call->partial = true;
  }
  if (std::erase(call->waits_for, part.member) > 0 &&
      call->waits_for.empty()) {
    FinishProbe(call.get());
  }
}

void StoreGroup::Impl::FinishProbe(ProbeCall* call) {
  if (!call->done) return;
  counters.probes_partial += call->partial;
  ProbeDone done = std::move(call->done);
  call->done = nullptr;
  done(call->merge.Finish());
}

int StoreGroup::Impl::EndLateProbes() {
  if (probes.empty()) return 0;
  int ended = 0;
  const Nanos now = clock->Now();
  while (!probes.empty()) {
    const std::shared_ptr<ProbeCall> call = probes.front();
    if (call->done && call->deadline > now) break;
    probes.pop_front();
    if (!call->done) continue;
    for (int m : call->waits_for) members[m].lagging = true;
    call->partial = true;
    ++ended;
    FinishProbe(call.get());
  }
  return ended;
}

}  // namespace forecache
