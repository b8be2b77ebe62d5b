// The part of DataPlane that takes corrections and works them off.
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvstore/data_plane.h"

namespace forecache {
namespace {

// Heads corrected before the bulk gets a turn: about a millisecond or two.
constexpr int kHeadsPerRound = 64;
// A vector this large is given back rather than kept for the next request.
constexpr size_t kKeptWordsMax = size_t{8} << 10;

}  // namespace

void DataPlane::OnCorrect(Endpoint* from, const wire::Message& message) {
  auto session = Admit(from, message);
  if (!session.ok()) return;
  auto body = wire::BodyOf<wire::CorrectBody>(message);
  if (!body.ok()) {
    return Refuse(from, message.header, body.status(),
                  metrics_.refused_request);
  }
  const size_t words =
      (message.payload.size() + sizeof(uint64_t) - 1) / sizeof(uint64_t);
  if (corrections_.full() ||
      queued_bytes_ + words * sizeof(uint64_t) > kQueuedRequestBytesMax) {
    return Refuse(
        from, message.header,
        absl::ResourceExhaustedError("the queue of corrections is full"),
        metrics_.refused_busy);
  }
  QueuedCorrection& correction = corrections_.Push();
  correction.payload.resize(words);
  if (words > 0) {
    std::memcpy(correction.payload.data(), message.payload.data(),
                message.payload.size());
  }
  correction.from = from;
  correction.header = message.header;
  correction.session = *std::move(session);
  correction.arrived = store_->clock()->Now();
  correction.head = 0;
  correction.next = 0;
  correction.picks.clear();
  queued_bytes_ += words * sizeof(uint64_t);
  absl::Status status = ParseCorrection(
      correction.session.geometry, *body,
      AsBytes(std::span<const uint64_t>(correction.payload))
          .first(message.payload.size()),
      &correction.request);
  if (!status.ok()) {
    correction.from = nullptr;  // RunCorrection lets it go
    Refuse(from, message.header, status, metrics_.refused_request);
  }
}

void DataPlane::EndCorrection(QueuedCorrection& correction) {
  if (correction.packed_buffer >= 0) {
    correction_buffers_.Return(correction.packed_buffer);
  }
  if (correction.reply_buffer >= 0) {
    correction_replies_.Return(correction.reply_buffer);
  }
  correction.packed_buffer = -1;
  correction.reply_buffer = -1;
  correction.session = {};
  queued_bytes_ -= correction.payload.size() * sizeof(uint64_t);
  if (correction.payload.capacity() > kKeptWordsMax) {
    std::vector<uint64_t>().swap(correction.payload);
  }
  correction.payload.clear();
  corrections_.Pop();
}

int DataPlane::RunCorrections() {
  int events = 0;
  // What was sent moves, and what is more urgent than bulk is heard, between
  // any two heads.
  for (int i = 0; i < kHeadsPerRound && RunCorrection(); ++i) {
    events += 1 + transport_->Progress();
  }
  return events;
}

bool DataPlane::RunCorrection() {
  if (corrections_.empty()) return false;
  QueuedCorrection& correction = corrections_.Front();
  if (correction.from == nullptr) {
    EndCorrection(correction);
    return true;
  }
  if (correction.reply_buffer < 0) {
    if (!correction_replies_.Available()) return false;
    correction.reply_buffer = correction_replies_.Take();
  }
  absl::Status sent = PushPicks(correction);
  if (absl::IsResourceExhausted(sent)) return false;  // later, as it is
  if (sent.ok() && correction.head < correction.session.geometry.kv_heads) {
    CorrectNextHead(correction);
    sent = PushPicks(correction);
    if (sent.ok() || absl::IsResourceExhausted(sent)) return true;
  }
  if (sent.ok()) sent = SendCorrectReply(correction);
  if (absl::IsResourceExhausted(sent)) return false;
  if (sent.ok()) {
    correction.reply_buffer = -1;  // the send's now
    metrics_.correct_seconds->Observe(
        static_cast<double>(store_->clock()->Now() - correction.arrived) /
        kSecond);
  }
  EndCorrection(correction);
  return true;
}

void DataPlane::CorrectNextHead(QueuedCorrection& correction) {
  const CorrectionRequest& request = correction.request;
  const size_t bytes =
      CorrectReplyBytes(correction.session.geometry, request.probe.blocks,
                        request.wants_scores);
  const size_t covered = corrector_.CorrectHead(
      correction.session, request, correction.head,
      correction_replies_.At(correction.reply_buffer).first(bytes),
      &correction.picks);
  if (correction.head == 0) metrics_.corrections->Add();
  metrics_.probe_key_bytes->Add(covered);
  correction.next = 0;
  ++correction.head;
}

absl::Status DataPlane::PushPicks(QueuedCorrection& correction) {
  while (correction.next < correction.picks.size()) {
    const auto rest = std::span(correction.picks).subspan(correction.next);
    if (correction.packed_buffer < 0) {
      if (PushInPlace(correction.from, correction.header, correction.session,
                      rest, /*may_end=*/false, &correction.packed)) {
        correction.next += correction.packed.entries;
        continue;
      }
      if (!correction_buffers_.Available()) {
        return absl::ResourceExhaustedError("no buffer");
      }
      correction.packed_buffer = correction_buffers_.Take();
      correction.packed =
          store_->Gather(correction.session, rest, &gatherer_,
                         correction_buffers_.At(correction.packed_buffer));
    }
    const int buffer = correction.packed_buffer;
    absl::Status sent =
        SendPush(correction.from, correction.header, correction.packed,
                 /*is_last=*/false, correction_buffers_.At(buffer),
                 [this, buffer](const absl::Status&) {
                   correction_buffers_.Return(buffer);
                 });
    if (!sent.ok()) return sent;
    correction.packed_buffer = -1;  // the send's now
    correction.next += correction.packed.entries;
  }
  return absl::OkStatus();
}

absl::Status DataPlane::SendCorrectReply(const QueuedCorrection& correction) {
  const CorrectionRequest& request = correction.request;
  const int buffer = correction.reply_buffer;
  ByteView payload = correction_replies_.At(buffer).first(
      CorrectReplyBytes(correction.session.geometry, request.probe.blocks,
                        request.wants_scores));
  wire::CorrectReplyBody body;
  body.layer = static_cast<uint32_t>(request.probe.layer);
  body.blocks = static_cast<uint32_t>(request.probe.blocks);
  body.flags = request.wants_scores ? uint32_t{wire::kCorrectWantsScores} : 0;
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(wire::MessageType::kCorrectReply);
  header.epoch = options_.epoch;
  header.request_id = correction.header.request_id;
  header.session_id = correction.header.session_id;
  wire::DescribePayload(payload, payload.size(), &header);
  return correction.from->Send(wire::Pack(header, AsBytes(body)).view(),
                               payload, [this, buffer](const absl::Status&) {
                                 correction_replies_.Return(buffer);
                               });
}

}  // namespace forecache
