// The part of StoreGroup that corrects.
//
// Each slot is offered to one member only, since two blocks cannot fill it, and
// the members share the slots as they share the range.  A union's best blocks
// are spread like the range on average; what a share misses costs a correction
// or two.  The other ways cost more: a full offer to each member needs N times
// the slots, and probing first needs the second trip that a fused message is
// there to save.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvstore/client/store_group_impl.h"

namespace forecache {
namespace {

using wire::CorrectedHead;
using wire::OfferedSlot;

// How many of [first, end) lie in the part's segments.
int BlocksInRange(const MemberPart& part, int first, int end) {
  int blocks = 0;
  for (int segment : part.segments) {
    const int from = std::max(first, segment * kSegmentBlocks);
    const int to = std::min(end, (segment + 1) * kSegmentBlocks);
    blocks += std::max(to - from, 0);
  }
  return blocks;
}

// Shares `count` out by weight: all of it, each within one of its due.
std::vector<uint32_t> ShareOut(uint32_t count, const std::vector<int>& weight) {
  const int64_t sum = std::accumulate(weight.begin(), weight.end(), int64_t{0});
  std::vector<uint32_t> shares(weight.size(), 0);
  int64_t before = 0;
  for (size_t i = 0; sum > 0 && i < weight.size(); ++i) {
    const int64_t after = before + weight[i];
    shares[i] = static_cast<uint32_t>((count * after + sum / 2) / sum -
                                      (count * before + sum / 2) / sum);
    before = after;
  }
  return shares;
}

}  // namespace

// Threads: as StoreGroup.
struct StoreGroup::Impl::CorrectCall : Call {
  CorrectCall(const KvGeometry& geometry, const CorrectRequest& request)
      : merge(geometry, request.layer, request.blocks),
        wants_scores(request.wants_scores),
        heads(geometry.kv_heads) {}

  void Finish() override {
    counters->probes_partial += merge.parts() < holders;
    if (merge.parts() == 0) return;  // nobody replied
    ProbeResult rows = merge.Finish();
    sink->OnCorrected(
        {.layer = rows.layer,
         .blocks = rows.blocks,
         .heads = heads,
         .lse = rows.lse,
         .log_probability = wants_scores
                                ? rows.log_probability
                                : std::span<const uint16_t>(),
         .tail = tails.Finish()});
  }

  ProbeMerge merge;
  TailMerge tails;
  const bool wants_scores;
  std::vector<CorrectedHead> heads;
  int holders = 0;  // members that have a part of the range
  StoreGroupCounters* counters = nullptr;
  CorrectSink* sink = nullptr;
};

// Threads: as StoreGroup.
struct StoreGroup::Impl::CorrectPart : Part, CorrectSink {
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    call->sink->OnBlock(layer, entry, k, v);
  }
  void OnSlotReturned(int layer, int kv_head, const OfferedSlot& slot,
                      const absl::Status& why) override {
    call->sink->OnSlotReturned(layer, kv_head, slot, Told(why));
  }
  void OnCorrected(const CorrectResult& result) override {
    call->merge.Add({result.layer, result.blocks, result.lse,
                     result.log_probability},
                    call->wants_scores ? has.segments : std::vector<int>());
    if (!result.tail.empty()) call->tails.Add(result.tail);
    for (size_t h = 0; h < call->heads.size(); ++h) {
      CorrectedHead& merged = call->heads[h];
      merged.used += result.heads[h].used;
      merged.best_left = std::max(merged.best_left, result.heads[h].best_left);
      merged.missing_mass =
          std::max(merged.missing_mass, result.heads[h].missing_mass);
    }
  }
  void FailAll(const absl::Status& why) override {
    size_t next = 0;
    for (size_t h = 0; h < slot_count.size(); ++h) {
      for (uint32_t i = 0; i < slot_count[h]; ++i) {
        OnSlotReturned(layer, static_cast<int>(h), slots[next++], why);
      }
    }
  }

  CorrectCall* call = nullptr;
  MemberPart has;
  int layer = 0;
  std::vector<uint32_t> slot_count;
  std::vector<OfferedSlot> slots;
};

absl::StatusOr<uint64_t> StoreGroup::Correct(const SessionHandle& session,
                                             const CorrectRequest& correction,
                                             CorrectSink* sink, Done done) {
  if (members() == 1) {
    return impl_->members[0].client->Correct(session, correction, sink,
                                             std::move(done));
  }
  const size_t heads = session.geometry.kv_heads;
  if (correction.slot_count.size() != heads ||
      std::accumulate(correction.slot_count.begin(),
                      correction.slot_count.end(),
                      size_t{0}) != correction.slots.size() ||
      correction.blocks < 1 || correction.blocks > kContextBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "blocks is ", correction.blocks, ", slot_count has ",
        correction.slot_count.size(), ", slots ", correction.slots.size()));
  }
  std::vector<std::unique_ptr<Impl::CorrectPart>> parts;
  std::vector<int> weight;
  int holders = 0;
  for (MemberPart& has :
       impl_->sessions->Parts(session.id, correction.blocks)) {
    const Impl::Member& member = impl_->members[has.member];
    ++holders;
    if (!impl_->IsUp(has.member) || member.lagging) continue;
    weight.push_back(BlocksInRange(has, correction.first, correction.end));
    parts.push_back(std::make_unique<Impl::CorrectPart>());
    parts.back()->has = std::move(has);
  }
  if (parts.empty()) {
    return absl::UnavailableError("no store of the group can correct");
  }
  if (std::accumulate(weight.begin(), weight.end(), 0) == 0) weight[0] = 1;
  size_t next = 0;
  for (size_t h = 0; h < heads; ++h) {
    const std::vector<uint32_t> shares =
        ShareOut(correction.slot_count[h], weight);
    for (size_t p = 0; p < parts.size(); ++p) {
      parts[p]->slot_count.push_back(shares[p]);
      const auto first = correction.slots.begin() + next;
      parts[p]->slots.insert(parts[p]->slots.end(), first, first + shares[p]);
      next += shares[p];
    }
  }
  auto added = std::make_unique<Impl::CorrectCall>(session.geometry,
                                                   correction);
  Impl::CorrectCall* call = added.get();
  call->sink = sink;
  call->holders = holders;
  call->counters = &impl_->counters;
  call->done = std::move(done);
  impl_->AddCall(std::move(added));
  const uint64_t id = call->id;
  for (auto& part : parts) {
    part->impl = impl_.get();
    part->member = part->has.member;
    part->layer = correction.layer;
    part->call = call;
    CorrectRequest share = correction;
    share.slot_count = part->slot_count;
    share.slots = part->slots;
    const absl::StatusOr<uint64_t> request =
        impl_->members[part->member].client->Correct(
            part->has.handle, share, part.get(),
            [impl = impl_.get(), id, part = part.get()](
                const absl::Status& end) { impl->PartEnded(id, part, end); });
    impl_->PartStarted(call, std::move(part), request);
  }
  return id;
}

}  // namespace forecache
