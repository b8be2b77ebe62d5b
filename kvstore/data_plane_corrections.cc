// The part of DataPlane that takes corrections and works them off.
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvstore/data_plane.h"

namespace forecache {
namespace {

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
  static_cast<QueuedScan&>(correction) = {.from = from,
                                          .header = message.header,
                                          .session = *std::move(session)};
  correction.arrived = store_->clock()->Now();
  queued_bytes_ += words * sizeof(uint64_t);
  absl::Status status = ParseCorrection(
      correction.session.geometry, *body,
      AsBytes(std::span<const uint64_t>(correction.payload))
          .first(message.payload.size()),
      &correction.request);
  if (!status.ok()) {
    correction.from = nullptr;  // RunCorrections lets it go
    return Refuse(from, message.header, status, metrics_.refused_request);
  }
  correction.reply_bytes = CorrectReplyBytes(
      correction.session.geometry, correction.request.probe.blocks,
      correction.request.wants_scores, correction.request.wants_tail);
  correction.work =
      ScanWork(correction.session.geometry, correction.request.probe);
}

void DataPlane::EndCorrection(QueuedCorrection& correction) {
  if (correction.reply_buffer >= 0) {
    correction_replies_.Return(correction.reply_buffer);
  }
  correction.reply_buffer = -1;
  correction.session = {};
  queued_bytes_ -= correction.payload.size() * sizeof(uint64_t);
  if (correction.payload.capacity() > kKeptWordsMax) {
    std::vector<uint64_t>().swap(correction.payload);
  }
  correction.payload.clear();
  correction.ended = true;
}

absl::Status DataPlane::SendCorrectReply(const QueuedCorrection& correction) {
  const CorrectionRequest& request = correction.request;
  const int buffer = correction.reply_buffer;
  const ByteView payload =
      correction_replies_.At(buffer).first(correction.reply_bytes);
  wire::CorrectReplyBody body;
  body.layer = static_cast<uint32_t>(request.probe.layer);
  body.blocks = static_cast<uint32_t>(request.probe.blocks);
  body.flags = (request.wants_scores ? wire::kCorrectWantsScores : 0u) |
               (request.wants_tail ? wire::kCorrectWantsTail : 0u);
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
