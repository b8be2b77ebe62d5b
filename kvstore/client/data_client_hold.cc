// The part of DataClient that sends, and that outlives its store: what was
// under way waits for it, and what it acknowledged and lost is put again.
#include <algorithm>
#include <cstring>
#include <utility>

#include "kvstore/client/data_client_impl.h"
#include "kvstore/client/put_payload.h"

namespace forecache {

using client_internal::HeaderFor;
using wire::MessageType;

// Puts of one session on their way back.
//
// Threads: as DataClient.
struct DataClient::Impl::Restoring {
  struct Put {
    KvGeometry geometry;
    wire::PutBlocksBody body;
    std::vector<std::byte> payload;
  };
  SessionHandle session;
  std::deque<Put> waiting;
  int under_way = 0;
  absl::Status status;
  Done done;
};

absl::Status DataClient::Impl::Send(Request* request, wire::WireHeader header,
                                    ByteView body) {
  header.request_id = request->id;
  request->header = header;
  request->body_bytes = body.size();
  std::copy(body.begin(), body.end(), request->body);
  const bool waits = holding && !request->restores &&
                     request->kind != RequestKind::kHello;
  if (waits) return absl::OkStatus();
  absl::Status status = SendNow(request);
  if (!status.ok()) requests.End(request);
  return status;
}

absl::Status DataClient::Impl::SendNow(Request* request) {
  wire::WireHeader header = request->header;
  header.epoch = epoch;
  auto found = renamed.find(header.session_id);
  if (found != renamed.end()) {
    header.session_id = found->second.id;
    std::copy(found->second.key, found->second.key + 2, header.session_key);
  }
  wire::PackedHeader packed =
      wire::Pack(header, {request->body, request->body_bytes});
  const int slot = requests.SlotOf(request);
  const size_t bytes = packed.size + request->payload.size();
  requests.MarkSending(request);
  absl::Status status = endpoint->Send(
      packed.view(), request->payload,
      [this, slot](const absl::Status&) { requests.SendEnded(slot); });
  if (!status.ok()) {
    requests.SendEnded(slot);
    // The disconnect that follows makes it wait.
    if (hold > 0 && absl::IsUnavailable(status) && !request->restores &&
        request->kind != RequestKind::kHello) {
      return absl::OkStatus();
    }
    return status;
  }
  counters.wire_bytes_sent += bytes;
  return absl::OkStatus();
}

void DataClient::Impl::StartHolding(const absl::Status& why) {
  if (!holding) {
    holding = true;
    hold_until = clock->Now() + hold;
  }
  std::vector<uint64_t> ended;
  for (const uint64_t id : requests.Ids()) {
    Request* request = requests.Find(id);
    request->deadline = hold_until;
    // These belong to a connection: whoever brings the store back asks anew.
    if (request->kind == RequestKind::kHello || request->restores) {
      ended.push_back(id);
    }
  }
  for (const uint64_t id : ended) Fail(id, why);
}

void DataClient::Impl::Keep(Request* request) {
  if (!keeps || request->restores) return;
  KeptPut put;
  put.session = request->header.session_id;
  put.geometry = request->geometry;
  std::memcpy(&put.body, request->body, sizeof(put.body));
  if (request->sends > 0) {
    put.payload = request->payload;  // the transport has not let go of it
  } else {
    put.payload = std::move(request->payload);
  }
  counters.kept_bytes += put.payload.size();
  kept.push_back(std::move(put));
  // Beyond the bound the oldest are given up: a store that dies then ends the
  // answer, as one without an SSD does.
  while (counters.kept_bytes > kKeptPutBytesMax) {
    counters.kept_bytes -= kept.front().payload.size();
    kept.pop_front();
  }
}

void DataClient::Impl::RestoreNext(std::shared_ptr<Restoring> restoring) {
  while (restoring->status.ok() && !restoring->waiting.empty() &&
         restoring->under_way < kRestoresInFlightMax) {
    Restoring::Put put = std::move(restoring->waiting.front());
    restoring->waiting.pop_front();
    if (endpoint == nullptr) {
      restoring->status = absl::UnavailableError("the store is lost again");
      break;
    }
    auto request = Begin(RequestKind::kPut, restoring->session, 0);
    if (!request.ok()) {
      restoring->status = request.status();
      break;
    }
    (*request)->restores = true;
    (*request)->blocks =
        static_cast<int>(put.body.block_count) * put.geometry.kv_heads;
    counters.blocks_restored += (*request)->blocks;
    (*request)->payload = std::move(put.payload);
    ++restoring->under_way;
    (*request)->done = [this, restoring](const absl::Status& end) {
      --restoring->under_way;
      restoring->status.Update(end);
      RestoreNext(restoring);
    };
    const size_t table = (*request)->blocks * sizeof(wire::PartChecksums);
    wire::WireHeader header =
        HeaderFor(MessageType::kPutBlocks, restoring->session);
    wire::DescribePayload((*request)->payload, table, &header);
    const absl::Status sent = Send(*request, header, AsBytes(put.body));
    if (sent.ok()) continue;
    --restoring->under_way;
    restoring->status = sent;
  }
  const bool over = restoring->waiting.empty() || !restoring->status.ok();
  if (!over || restoring->under_way > 0) return;
  if (Done done = std::exchange(restoring->done, nullptr)) {
    done(restoring->status);
  }
}

void DataClient::SetHold(Nanos hold) { impl_->hold = hold; }

bool DataClient::IsHolding() const { return impl_->MayHold(); }

void DataClient::Restore(uint64_t session, const SessionHandle& now,
                         std::span<const uint32_t> held, Done done) {
  impl_->renamed[session] = now;
  auto restoring = std::make_shared<Impl::Restoring>();
  restoring->session = now;
  restoring->done = std::move(done);
  const auto is_held = [&](uint32_t segment) {
    return std::find(held.begin(), held.end(), segment) != held.end();
  };
  for (const Impl::KeptPut& put : impl_->kept) {
    if (put.session != session) continue;
    const uint32_t first = put.body.first_block;
    const uint32_t end = first + put.body.block_count;
    // Segment by segment: one that is held is sealed, and takes no puts.
    for (uint32_t from = first, to; from < end; from = to) {
      to = std::min(end, (from / kSegmentBlocks + 1) * kSegmentBlocks);
      if (is_held(from / kSegmentBlocks)) continue;
      restoring->waiting.push_back(
          {put.geometry,
           {put.body.layer, from, to - from, 0},
           CutPutPayload(put.payload, put.geometry,
                         static_cast<int>(end - first),
                         static_cast<int>(from - first),
                         static_cast<int>(to - from))});
    }
  }
  impl_->RestoreNext(std::move(restoring));
}

void DataClient::GoOn() {
  if (impl_->endpoint == nullptr) return;  // lost again
  impl_->holding = false;
  const Nanos deadline = impl_->clock->Now() + kRequestTimeout;
  for (const uint64_t id : impl_->requests.Ids()) {
    Request* request = impl_->requests.Find(id);
    if (request == nullptr) continue;  // another's end ended it
    request->deadline = deadline;
    if (request->kind == RequestKind::kHello || request->restores) continue;
    const absl::Status sent = impl_->SendNow(request);
    if (!sent.ok()) impl_->Fail(id, sent);
  }
}

void DataClient::FailSession(uint64_t session, const absl::Status& why) {
  for (const uint64_t id : impl_->requests.Ids()) {
    Request* request = impl_->requests.Find(id);
    if (request != nullptr && request->header.session_id == session &&
        request->kind != RequestKind::kHello) {
      impl_->Fail(id, why);
    }
  }
}

void DataClient::Durable(uint64_t session, int segments) {
  std::erase_if(impl_->kept, [&](const Impl::KeptPut& put) {
    const uint32_t last = put.body.first_block + put.body.block_count - 1;
    const bool gone = put.session == session &&
                      last / kSegmentBlocks < static_cast<uint32_t>(segments);
    if (gone) impl_->counters.kept_bytes -= put.payload.size();
    return gone;
  });
}

void DataClient::Forget(uint64_t session) {
  Durable(session, kContextBlocksMax);
  impl_->renamed.erase(session);
}

}  // namespace forecache
