// The part of DataClient that takes what the store sends.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/crc32c.h"
#include "common/log.h"
#include "kvstore/client/data_client_impl.h"

namespace forecache {

using wire::BlockStatus;
using wire::FetchEntry;
using wire::MessageType;
using wire::PushEntry;

namespace {

bool Answers(const PushEntry& push, const FetchEntry& fetch) {
  return push.block == fetch.block && push.kv_head == fetch.kv_head &&
         push.layer == fetch.layer &&
         push.slot == fetch.slot && push.generation == fetch.generation;
}

// Another core wrote these bytes: they come while the block before them is
// checked and copied.
void AskFor(ByteView bytes) {
  constexpr size_t kLineBytes = 64;
  for (size_t i = 0; i < bytes.size(); i += kLineBytes) {
    __builtin_prefetch(bytes.data() + i);
  }
}

bool IsAnswer(MessageType type, RequestKind request) {
  switch (type) {
    case MessageType::kHelloAck:
      return request == RequestKind::kHello;
    case MessageType::kPutAck:
      return request == RequestKind::kPut;
    case MessageType::kPush:
      return request == RequestKind::kFetch ||
             request == RequestKind::kCorrect;
    case MessageType::kProbeReply:
      return request == RequestKind::kProbe;
    case MessageType::kCorrectReply:
      return request == RequestKind::kCorrect;
    default:
      return false;
  }
}

}  // namespace

absl::StatusOr<Request*> DataClient::Impl::Begin(RequestKind kind,
                                                 const SessionHandle& session,
                                                 int layer) {
  if (endpoint == nullptr && !MayHold()) {
    return absl::UnavailableError("not connected to a store");
  }
  // Bulk leaves room for what is urgent.
  const bool is_urgent =
      kind == RequestKind::kCorrect || kind == RequestKind::kHello;
  const int limit =
      is_urgent ? kRequestsInFlightMax : kRequestsInFlightMax - kUrgentRequests;
  Request* request =
      requests.under_way() < limit ? requests.Start() : nullptr;
  if (request == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(
        limit, " requests are under way, which is the limit"));
  }
  request->kind = kind;
  request->geometry = session.geometry;
  request->layer = layer;
  // A request that waits for the store has until then, as all of them have.
  request->deadline =
      holding ? hold_until : clock->Now() + kRequestTimeout;
  return request;
}

void DataClient::Impl::OnMessage(ByteView header, ByteView payload) {
  counters.wire_bytes_received += header.size() + payload.size();
  auto message = wire::Parse(header, payload);
  if (!message.ok()) {
    ++counters.messages_refused;
    if (absl::IsFailedPrecondition(message.status())) {
      OnOtherVersion(message.status());
    }
    return;
  }
  if (message->type() == MessageType::kPong) return;
  if (message->type() == MessageType::kError) return OnError(*message);
  if (message->type() == MessageType::kPush) TakeCredit(*message);
  Request* request = requests.Find(message->header.request_id);
  if (request == nullptr && requests.HasEnded(message->header.request_id)) {
    ++counters.answers_late;
    return;
  }
  if (request == nullptr || message->header.epoch != epoch ||
      !IsAnswer(message->type(), request->kind)) {
    ++counters.messages_refused;
    return;
  }
  absl::Status intact = wire::CheckPayload(*message);
  if (!intact.ok()) {
    ++counters.messages_refused;
    if (request->kind == RequestKind::kFetch) {
      counters.blocks_refused += request->unanswered;
    }
    return Fail(request->id, intact);
  }
  switch (message->type()) {
    case MessageType::kPush:
      return OnPush(request, *message);
    case MessageType::kProbeReply:
      return OnProbeReply(request, *message);
    case MessageType::kCorrectReply:
      return OnCorrectReply(request, *message);
    case MessageType::kPutAck:
      counters.blocks_put += request->blocks;
      Keep(request);
      return Finish(request);
    case MessageType::kHelloAck:
      return Finish(request);
    default:
      ++counters.messages_refused;
  }
}

void DataClient::Impl::TakeCredit(const wire::Message& push) {
  const auto body = wire::BodyOf<wire::PushBody>(push);
  if (!body.ok() || endpoint == nullptr) return;
  // The store may push less than a whole credit before it hears.
  constexpr uint64_t kStep = kPushCreditBytes / 8;
  pushes_taken = std::max(pushes_taken, body->sent);
  if (pushes_taken - pushes_told < kStep) return;
  wire::WireHeader header =
      client_internal::HeaderFor(MessageType::kCredit, {});
  header.epoch = epoch;
  wire::DescribePayload({}, 0, &header);
  const absl::Status sent = endpoint->Send(
      wire::Pack(header, AsBytes(wire::CreditBody{pushes_taken})).view(), {},
      nullptr);
  // Else the next push's turn tells.
  if (sent.ok()) pushes_told = pushes_taken;
}

void DataClient::Impl::OnPush(Request* request, const wire::Message& message) {
  auto body = wire::BodyOf<wire::PushBody>(message);
  const uint64_t id = request->id;
  const size_t part = request->geometry.PartBytes();
  ByteView rest = message.payload;
  if (!body.ok() ||
      rest.size() / sizeof(PushEntry) < body->count) {
    ++counters.messages_refused;
    return Fail(id, absl::DataLossError("the store's push makes no sense"));
  }
  const ByteView table = rest.first(body->count * sizeof(PushEntry));
  rest = rest.subspan(table.size());
  AskFor(table);
  size_t hint = 0;
  for (uint32_t i = 0; i < body->count; ++i) {
    PushEntry entry;
    std::memcpy(&entry, table.data() + i * sizeof(entry), sizeof(entry));
    ByteView k, v;
    if (entry.status == static_cast<uint16_t>(BlockStatus::kOk)) {
      if (rest.size() < 2 * part) {
        ++counters.messages_refused;
        return Fail(id, absl::DataLossError("the store's push is cut short"));
      }
      k = rest.first(part);
      v = rest.subspan(part, part);
      rest = rest.subspan(2 * part);
      AskFor(rest.first(std::min(rest.size(), 2 * part)));
    }
    if (request->kind == RequestKind::kCorrect) {
      TakeSlot(request, entry, k, v);
    } else {
      TakeBlock(request, entry, k, v, &hint);
    }
    // The sink may have cancelled.
    request = requests.Find(id);
    if (request == nullptr) return;
  }
  const bool replied =
      request->kind != RequestKind::kCorrect || request->replied;
  if (request->unanswered == 0 && replied) Finish(request);
}

absl::Status DataClient::Impl::CheckBlock(const PushEntry& entry, ByteView k,
                                          ByteView v) {
  absl::Status why;
  switch (static_cast<BlockStatus>(entry.status)) {
    case BlockStatus::kOk:
      if (Crc32c(k) == entry.checksums.k && Crc32c(v) == entry.checksums.v) {
        ++counters.blocks_received;
        counters.bytes_received += k.size() + v.size();
        return absl::OkStatus();
      }
      why = absl::DataLossError("the block was damaged on the way");
      break;
    case BlockStatus::kNotFound:
      return absl::NotFoundError("the store does not hold the block");
    default:
      why = absl::DataLossError("the store's copy of the block is damaged");
  }
  ++counters.blocks_refused;
  return why;
}

void DataClient::Impl::TakeBlock(Request* request, const PushEntry& entry,
                                 ByteView k, ByteView v, size_t* hint) {
  // The store keeps the order, so the next entry is nearly always the one.
  std::span<const FetchEntry> entries = request->entries();
  size_t found = *hint;
  if (found >= entries.size() || !Answers(entry, entries[found])) {
    for (found = 0; found < entries.size(); ++found) {
      if (Answers(entry, entries[found])) break;
    }
  }
  if (found == entries.size()) {
    ++counters.messages_refused;  // not asked for
    return;
  }
  if (request->answered[found]) {
    ++counters.answers_late;
    return;
  }
  *hint = found + 1;
  request->answered[found] = true;
  --request->unanswered;
  const absl::Status why = CheckBlock(entry, k, v);
  const int layer = entries[found].layer;
  if (why.ok()) return request->sink->OnBlock(layer, entry, k, v);
  request->sink->OnBlockFailed(layer, entries[found], why);
}

void DataClient::Impl::OnProbeReply(Request* request,
                                    const wire::Message& message) {
  auto body = wire::BodyOf<wire::ProbeReplyBody>(message);
  const size_t rows =
      size_t{1} * request->geometry.kv_heads * request->geometry.group;
  const size_t scores = rows * request->blocks;
  if (!body.ok() || body->layer != static_cast<uint32_t>(request->layer) ||
      body->blocks != static_cast<uint32_t>(request->blocks) ||
      message.payload.size() !=
          rows * sizeof(float) + scores * sizeof(uint16_t)) {
    ++counters.messages_refused;
    return Fail(request->id,
                absl::DataLossError("the store's scores make no sense"));
  }
  const std::byte* bytes = message.payload.data();
  if (reinterpret_cast<uintptr_t>(bytes) % alignof(float) != 0) {
    aligned.assign(message.payload.begin(), message.payload.end());
    bytes = aligned.data();
  }
  ProbeResult result;
  result.layer = request->layer;
  result.blocks = request->blocks;
  result.lse = {reinterpret_cast<const float*>(bytes), rows};
  result.log_probability = {
      reinterpret_cast<const uint16_t*>(bytes + rows * sizeof(float)), scores};
  ++counters.probes;
  DataClient::ProbeDone done = std::move(request->probe_done);
  requests.End(request);
  if (done) done(result);
}

void DataClient::Impl::OnError(const wire::Message& message) {
  auto body = wire::BodyOf<wire::ErrorBody>(message);
  auto code = body.ok() ? static_cast<absl::StatusCode>(body->code)
                        : absl::StatusCode::kUnknown;
  if (code == absl::StatusCode::kOk) code = absl::StatusCode::kUnknown;
  absl::Status why(
      code, absl::StrCat("store: ", absl::string_view(
                                        reinterpret_cast<const char*>(
                                            message.payload.data()),
                                        message.payload.size())));
  if (message.header.request_id == 0) {
    ++counters.messages_refused;
    return OnOtherVersion(why);
  }
  if (requests.Find(message.header.request_id) == nullptr) {
    ++(requests.HasEnded(message.header.request_id)
           ? counters.answers_late
           : counters.messages_refused);
    return;
  }
  Fail(message.header.request_id, why);
}

// Two sides of different versions cannot name requests to each other: it is
// the hello that ends.
void DataClient::Impl::OnOtherVersion(const absl::Status& why) {
  Request* oldest = requests.Oldest();
  if (oldest != nullptr && oldest->kind == RequestKind::kHello) {
    Fail(oldest->id, why);
  } else {
    LogWarning("message of the store refused", {{"why", why.ToString()}});
  }
}

void DataClient::Impl::Finish(Request* request) {
  DataClient::Done done = std::move(request->done);
  requests.End(request);
  if (done) done(absl::OkStatus());
}

void DataClient::Impl::FailAnswer(Request* request, size_t index,
                                  const absl::Status& why) {
  request->answered[index] = true;
  --request->unanswered;
  if (request->kind == RequestKind::kFetch) {
    const FetchEntry entry = request->entries()[index];
    return request->sink->OnBlockFailed(entry.layer, entry, why);
  }
  int head = 0;
  for (size_t end = request->slot_count()[0]; end <= index;) {
    end += request->slot_count()[++head];
  }
  const wire::OfferedSlot slot = request->slots()[index];
  request->correct_sink->OnSlotReturned(request->layer, head, slot, why);
}

void DataClient::Impl::Fail(uint64_t id, const absl::Status& why) {
  Request* request = requests.Find(id);
  if (request == nullptr) return;
  const bool has_answers = request->kind == RequestKind::kFetch ||
                           request->kind == RequestKind::kCorrect;
  for (size_t i = 0; has_answers && request->unanswered > 0; ++i) {
    if (request->answered[i]) continue;
    FailAnswer(request, i, why);
    if (requests.Find(id) == nullptr) return;  // ended by the sink
  }
  DataClient::Done done = std::move(request->done);
  DataClient::ProbeDone probe_done = std::move(request->probe_done);
  requests.End(request);
  if (done) done(why);
  if (probe_done) probe_done(why);
}

void DataClient::Impl::FailAll(const absl::Status& why) {
  // Callbacks may start requests, which fail at once: there is no endpoint.
  while (Request* oldest = requests.Oldest()) Fail(oldest->id, why);
}

void DataClient::Impl::Disconnect(const absl::Status& why) {
  const bool had_one = endpoint != nullptr;
  if (had_one) transport->Close(endpoint);
  endpoint = nullptr;
  if (hold > 0 && (had_one || holding)) return StartHolding(why);
  FailAll(why);
}

int DataClient::Impl::EndLate() {
  int ended = 0;
  const Nanos now = clock->Now();
  for (Request* oldest = requests.Oldest();
       oldest != nullptr && oldest->deadline <= now;
       oldest = requests.Oldest()) {
    ++counters.requests_timed_out;
    ++ended;
    Fail(oldest->id,
         holding ? absl::UnavailableError("the store did not come back in time")
                 : absl::DeadlineExceededError(
                       "the store did not answer in time"));
  }
  return ended;
}

}  // namespace forecache
