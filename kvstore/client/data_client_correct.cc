// The part of DataClient that corrects.
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvstore/client/data_client_impl.h"

namespace forecache {

using wire::CorrectedHead;
using wire::OfferedSlot;
using wire::PushEntry;

namespace {

size_t Rows(const KvGeometry& geometry) {
  return size_t{1} * geometry.kv_heads * geometry.group;
}

absl::Status CheckSlots(const CorrectRequest& correction) {
  size_t slots = 0;
  for (uint32_t count : correction.slot_count) {
    if (count > kCorrectionSlotsMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "slot_count is ", count, ", must be at most ", kCorrectionSlotsMax));
    }
    slots += count;
  }
  if (slots == correction.slots.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("slots has ", correction.slots.size(),
                   ", slot_count sums to ", slots));
}

absl::Status CheckCorrection(const SessionHandle& session,
                             const CorrectRequest& correction) {
  absl::Status status = client_internal::CheckLayer(session, correction.layer);
  if (!status.ok()) return status;
  const KvGeometry& geometry = session.geometry;
  const size_t heads = geometry.kv_heads;
  const int blocks = correction.blocks;
  if (blocks < 1 || blocks > kContextBlocksMax || correction.first < 0 ||
      correction.first > correction.end || correction.end > blocks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "blocks is ", blocks, ", must be 1..", kContextBlocksMax,
        "; range is [", correction.first, ", ", correction.end, ")"));
  }
  if (correction.q.size() != Rows(geometry) * geometry.head_dim ||
      correction.resident.size() != heads * wire::ResidentWords(blocks) ||
      correction.slot_count.size() != heads ||
      (!correction.local_lse.empty() &&
       correction.local_lse.size() != Rows(geometry))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "q has ", correction.q.size(), ", resident ",
        correction.resident.size(), ", slot_count ",
        correction.slot_count.size(), ", local_lse ",
        correction.local_lse.size(), " items: not what the geometry says"));
  }
  return CheckSlots(correction);
}

template <typename T>
void Append(std::span<const T> items, std::vector<std::byte>* payload) {
  ByteView bytes = AsBytes(items);
  payload->insert(payload->end(), bytes.begin(), bytes.end());
}

void PackCorrection(const SessionHandle& session,
                    const CorrectRequest& correction,
                    std::vector<std::byte>* payload) {
  payload->clear();
  Append(correction.resident, payload);
  Append(correction.q, payload);
  Append(correction.local_lse, payload);
  if (correction.local_lse.empty()) {
    constexpr float kNone = -std::numeric_limits<float>::infinity();
    for (size_t i = 0; i < Rows(session.geometry); ++i) {
      Append(std::span(&kNone, 1), payload);
    }
  }
  Append(correction.slot_count, payload);
  Append(correction.slots, payload);
}

}  // namespace

absl::StatusOr<uint64_t> DataClient::Correct(const SessionHandle& session,
                                             const CorrectRequest& correction,
                                             CorrectSink* sink, Done done) {
  absl::Status status = CheckCorrection(session, correction);
  if (!status.ok()) return status;
  auto started =
      impl_->Begin(RequestKind::kCorrect, session, correction.layer);
  if (!started.ok()) return started.status();
  Request* request = *started;
  PackCorrection(session, correction, &request->payload);
  request->answered.assign(correction.slots.size(), false);
  request->unanswered = correction.slots.size();
  request->blocks = correction.blocks;
  request->replied = false;
  request->correct_sink = sink;
  request->done = std::move(done);
  wire::CorrectBody& body = request->correct;
  body.layer = static_cast<uint32_t>(correction.layer);
  body.blocks = static_cast<uint32_t>(correction.blocks);
  body.scale = correction.scale;
  body.first = static_cast<uint32_t>(correction.first);
  body.end = static_cast<uint32_t>(correction.end);
  body.slots = static_cast<uint32_t>(correction.slots.size());
  body.threshold = correction.threshold;
  body.flags = (correction.wants_scores ? wire::kCorrectWantsScores : 0u) |
               (correction.wants_tail ? wire::kCorrectWantsTail : 0u);
  wire::WireHeader header = client_internal::HeaderFor(
      wire::MessageType::kCorrect, session);
  wire::DescribePayload(request->payload, request->payload.size(), &header);
  const uint64_t id = request->id;
  status = impl_->Send(request, header, AsBytes(body));
  if (!status.ok()) return status;
  return id;
}

void DataClient::Impl::TakeSlot(Request* request, const PushEntry& entry,
                                ByteView k, ByteView v) {
  const wire::CorrectBody& asked = request->correct;
  const std::span<const uint32_t> counts = request->slot_count();
  const bool is_wanted =
      entry.layer == asked.layer && entry.kv_head < counts.size() &&
      entry.block >= asked.first && entry.block < asked.end &&
      !request->IsResident(entry.kv_head, entry.block);
  size_t found = 0, end = 0;
  if (is_wanted) {
    for (int head = 0; head < entry.kv_head; ++head) found += counts[head];
    end = found + counts[entry.kv_head];
  }
  for (; found < end; ++found) {
    const OfferedSlot& slot = request->slots()[found];
    if (slot.slot == entry.slot && slot.generation == entry.generation) break;
  }
  if (found == end) {
    ++counters.messages_refused;  // not offered
    return;
  }
  if (request->answered[found]) {
    ++counters.answers_late;
    return;
  }
  request->answered[found] = true;
  --request->unanswered;
  const absl::Status why = CheckBlock(entry, k, v);
  if (why.ok()) {
    return request->correct_sink->OnBlock(request->layer, entry, k, v);
  }
  const OfferedSlot slot = request->slots()[found];
  request->correct_sink->OnSlotReturned(request->layer, entry.kv_head, slot,
                                        why);
}

bool DataClient::Impl::ReturnUnused(Request* request,
                                    std::span<const CorrectedHead> heads) {
  const uint64_t id = request->id;
  size_t first = 0;
  for (size_t head = 0; head < heads.size(); ++head) {
    const size_t count = request->slot_count()[head];
    for (size_t i = first + heads[head].used; i < first + count; ++i) {
      if (request->answered[i]) continue;
      FailAnswer(request, i, absl::OkStatus());
      if (requests.Find(id) == nullptr) return false;
    }
    first += count;
  }
  return true;
}

void DataClient::Impl::OnCorrectReply(Request* request,
                                      const wire::Message& message) {
  auto body = wire::BodyOf<wire::CorrectReplyBody>(message);
  const size_t rows = Rows(request->geometry);
  const size_t heads = request->geometry.kv_heads;
  const bool has_scores =
      (request->correct.flags & wire::kCorrectWantsScores) != 0;
  const size_t scores = has_scores ? rows * request->blocks : 0;
  const bool has_tail =
      (request->correct.flags & wire::kCorrectWantsTail) != 0;
  const size_t tail_rows = has_tail ? rows : 0;
  const size_t tail_part = tail_rows * request->geometry.head_dim;
  bool makes_sense =
      body.ok() && body->layer == request->correct.layer &&
      body->blocks == request->correct.blocks &&
      body->flags == request->correct.flags &&
      message.payload.size() == heads * sizeof(CorrectedHead) +
                                    (rows + tail_rows) * sizeof(float) +
                                    (2 * tail_part + scores) *
                                        sizeof(uint16_t);
  const std::byte* bytes = message.payload.data();
  if (makes_sense && reinterpret_cast<uintptr_t>(bytes) % alignof(float)) {
    aligned.assign(message.payload.begin(), message.payload.end());
    bytes = aligned.data();
  }
  CorrectResult result;
  for (size_t head = 0; makes_sense && head < heads; ++head) {
    result.heads = {reinterpret_cast<const CorrectedHead*>(bytes), heads};
    makes_sense = result.heads[head].used <= request->slot_count()[head];
  }
  if (!makes_sense || request->replied) {
    ++counters.messages_refused;
    if (request->replied) return;  // doubled on the way
    return Fail(request->id,
                absl::DataLossError("the store's reply makes no sense"));
  }
  bytes += heads * sizeof(CorrectedHead);
  result.layer = request->layer;
  result.blocks = request->blocks;
  result.lse = {reinterpret_cast<const float*>(bytes), rows};
  bytes += rows * sizeof(float);
  result.tail.lse = {reinterpret_cast<const float*>(bytes), tail_rows};
  bytes += tail_rows * sizeof(float);
  for (auto* part : {&result.tail.key, &result.tail.value}) {
    *part = {reinterpret_cast<const uint16_t*>(bytes), tail_part};
    bytes += tail_part * sizeof(uint16_t);
  }
  result.log_probability = {reinterpret_cast<const uint16_t*>(bytes), scores};
  ++counters.corrections;
  request->replied = true;
  const uint64_t id = request->id;
  request->correct_sink->OnCorrected(result);
  request = requests.Find(id);
  if (request == nullptr || !ReturnUnused(request, result.heads)) return;
  if (request->unanswered == 0) Finish(request);
}

}  // namespace forecache
