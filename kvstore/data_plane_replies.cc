// The part of DataPlane that works off its queues.
#include <utility>

#include "common/log.h"
#include "kvstore/data_plane.h"

namespace forecache {
namespace {

// A vector this large is given back rather than kept for the next request.
constexpr size_t kKeptBytesMax = size_t{64} << 10;

template <typename T>
size_t Recycle(std::vector<T>& items) {
  size_t bytes = items.size() * sizeof(T);
  items.clear();
  if (items.capacity() * sizeof(T) > kKeptBytesMax) items.shrink_to_fit();
  return bytes;
}

}  // namespace

int DataPlane::TakePushBuffer(int line) {
  const int buffer = push_buffers_.Take();
  push_lines_[buffer] = line;
  fetches_.TakeToken(line);
  return buffer;
}

void DataPlane::ReturnPushBuffer(int buffer) {
  push_buffers_.Return(buffer);
  fetches_.ReturnToken(push_lines_[buffer]);
}

void DataPlane::EndFetch(int line) {
  QueuedFetch& fetch = *fetches_.Front(line);
  if (fetch.packed_buffer >= 0) ReturnPushBuffer(fetch.packed_buffer);
  fetch.packed_buffer = -1;
  fetch.session = {};
  queued_bytes_ -= Recycle(fetch.entries);
  fetches_.Pop(line);
}

void DataPlane::EndProbe(QueuedProbe& probe) {
  if (probe.reply_buffer >= 0) probe_buffers_.Return(probe.reply_buffer);
  probe.reply_buffer = -1;
  probe.session = {};
  queued_bytes_ -= Recycle(probe.q);
  probe.ended = true;
}

bool DataPlane::RunPush() {
  for (size_t i = 0; i < fetches_.lines(); ++i) {
    if (PushNext(fetches_.LineAt(i))) return true;
  }
  return false;
}

bool DataPlane::PushNext(int line) {
  QueuedFetch* fetch = fetches_.Front(line);
  if (fetch == nullptr) return false;
  if (fetch->gather >= 0) {
    if (!gathers_->Ended(fetch->gather)) return false;
    fetch->packed = gathers_->Take(std::exchange(fetch->gather, -1));
  }
  if (fetch->from == nullptr) {
    EndFetch(line);
    return true;
  }
  if (fetch->session.IsRevoked()) {
    AnswerError(fetch->from, fetch->header,
                absl::PermissionDeniedError("tenant: was removed"));
    EndFetch(line);
    return true;
  }
  const auto rest = std::span(fetch->entries).subspan(fetch->next);
  if (fetch->packed_buffer < 0) {
    if (!TakesPush(fetch->from, fetch->session.geometry, rest.size(),
                   /*urgent=*/false)) {
      return false;
    }
    const bool on_device = NeedsDevice(fetch->session, rest);
    if (!on_device && PushInPlace(fetch->from, fetch->header, fetch->session,
                                  rest, /*may_end=*/true, &fetch->packed)) {
      EndPush(line);
      return true;
    }
    if (!push_buffers_.Available() ||
        fetches_.tokens(line) >= options_.peer_push_buffers ||
        (on_device && !gathers_->Available(/*urgent=*/false))) {
      return false;
    }
    fetch->packed_buffer = TakePushBuffer(line);
    if (on_device) {
      fetch->gather =
          gathers_->Start(fetch->session, rest,
                          push_buffers_.At(fetch->packed_buffer),
                          /*urgent=*/false);
      return true;
    }
    fetch->packed = store_->Gather(fetch->session, rest, &gatherer_,
                                   push_buffers_.At(fetch->packed_buffer));
  }
  const bool is_last = fetch->packed.entries == rest.size();
  const int buffer = fetch->packed_buffer;
  absl::Status sent =
      SendPush(fetch->from, fetch->header, fetch->packed, is_last,
               push_buffers_.At(buffer),
               [this, buffer](const absl::Status&) {
                 ReturnPushBuffer(buffer);
               });
  if (absl::IsResourceExhausted(sent)) return false;  // later, as it is
  if (!sent.ok()) {
    fetches_.EndTurn(line, fetch->packed.bytes);
    EndFetch(line);  // the peer is gone
    return true;
  }
  fetch->packed_buffer = -1;  // the send's now
  EndPush(line);
  return true;
}

void DataPlane::EndPush(int line) {
  QueuedFetch& fetch = *fetches_.Front(line);
  fetches_.EndTurn(line, fetch.packed.bytes);
  fetch.next += fetch.packed.entries;
  if (fetch.next < fetch.entries.size()) return;
  metrics_.fetch_seconds->Observe(
      static_cast<double>(store_->clock()->Now() - fetch.arrived) / kSecond);
  EndFetch(line);
}

bool DataPlane::TakesPush(Endpoint* to, const KvGeometry& geometry,
                          size_t entries, bool urgent) {
  PushCredit& credit = peers_.at(to).credit;
  if (credit.Admits(PushBytes(geometry, entries), urgent)) return true;
  if (credit.Starve(store_->clock()->Now())) {
    metrics_.push_credits_lapsed->Add();
    LogWarning("a peer tells nothing of what it was pushed",
               {{"peer", to->PeerName()}});
  }
  return false;
}

wire::PackedHeader DataPlane::PushHeader(Endpoint* to,
                                         const wire::WireHeader& request,
                                         const PackedPush& push, bool is_last,
                                         ByteView payload) const {
  wire::PushBody body;
  body.sent = peers_.at(to).credit.sent() + push.bytes;
  body.count = static_cast<uint32_t>(push.entries);
  body.last = is_last;
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(wire::MessageType::kPush);
  header.epoch = options_.epoch;
  header.request_id = request.request_id;
  header.session_id = request.session_id;
  wire::DescribePayload(payload, push.table_bytes, &header);
  return wire::Pack(header, AsBytes(body));
}

bool DataPlane::PushInPlace(Endpoint* to, const wire::WireHeader& request,
                            const SessionSnapshot& session,
                            std::span<const wire::FetchEntry> entries,
                            bool may_end, PackedPush* packed) {
  const MutableBytes place =
      to->Reserve(PushBytes(session.geometry, entries.size()));
  if (place.empty()) return false;
  *packed = store_->Gather(session, entries, &gatherer_, place);
  const bool is_last = may_end && packed->entries == entries.size();
  to->Commit(
      PushHeader(to, request, *packed, is_last, place.first(packed->bytes))
          .view(),
      packed->bytes);
  peers_.at(to).credit.Sent(packed->bytes);
  return true;
}

absl::Status DataPlane::SendPush(Endpoint* to, const wire::WireHeader& request,
                                 const PackedPush& push, bool is_last,
                                 ByteView buffer, Endpoint::Done done) {
  const ByteView payload = buffer.first(push.bytes);
  absl::Status sent =
      to->Send(PushHeader(to, request, push, is_last, payload).view(), payload,
               std::move(done));
  if (sent.ok()) peers_.at(to).credit.Sent(push.bytes);
  return sent;
}

absl::Status DataPlane::SendProbeReply(const QueuedProbe& probe) {
  const int buffer = probe.reply_buffer;
  const ByteView payload = probe_buffers_.At(buffer).first(probe.reply_bytes);
  wire::ProbeReplyBody body{static_cast<uint32_t>(probe.request.layer),
                            static_cast<uint32_t>(probe.request.blocks)};
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(wire::MessageType::kProbeReply);
  header.epoch = options_.epoch;
  header.request_id = probe.header.request_id;
  header.session_id = probe.header.session_id;
  wire::DescribePayload(payload, payload.size(), &header);
  return probe.from->Send(
      wire::Pack(header, AsBytes(body)).view(), payload,
      [this, buffer](const absl::Status&) { probe_buffers_.Return(buffer); });
}

}  // namespace forecache
