#include "kvstore/client/data_client.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/limits.h"
#include "common/log.h"
#include "kvstore/client/data_client_impl.h"

namespace forecache {

using client_internal::CheckLayer;
using client_internal::HeaderFor;
using wire::MessageType;

DataClient::DataClient(Transport* transport, Clock* clock)
    : impl_(std::make_unique<Impl>(transport, clock)) {
  transport->SetHandler(this);
}

DataClient::~DataClient() {
  impl_->muted = true;
  if (impl_->endpoint != nullptr) impl_->transport->Close(impl_->endpoint);
  impl_->endpoint = nullptr;
  // Payloads are ours until the transport let go of them.
  for (int i = 0; i < 1000 && impl_->requests.sending() > 0; ++i) {
    impl_->transport->Progress();
  }
  if (impl_->requests.sending() > 0) {
    LogWarning("sends never ended; their memory is left to them",
               {{"sends", impl_->requests.sending()}});
    impl_.release();
  }
}

absl::Status DataClient::Connect(const StoreAddress& store, Done done) {
  impl_->Disconnect(absl::UnavailableError("the worker connects anew"));
  auto endpoint = impl_->transport->Connect(store.data_plane);
  if (!endpoint.ok()) return endpoint.status();
  impl_->endpoint = *endpoint;
  impl_->epoch = store.epoch;
  impl_->pushes_taken = impl_->pushes_told = 0;
  impl_->keeps = store.durable && impl_->hold > 0;
  auto request = impl_->Begin(RequestKind::kHello, {}, 0);
  if (!request.ok()) return request.status();
  (*request)->done = std::move(done);
  (*request)->deadline = impl_->clock->Now() + kConnectTimeout;
  wire::WireHeader header = HeaderFor(MessageType::kHello, {});
  header.epoch = store.epoch;
  header.request_id = (*request)->id;
  const wire::HelloProof proof = ProveHello(store.grant, header);
  const ByteView bytes = AsBytes(proof);
  (*request)->payload.assign(bytes.begin(), bytes.end());
  wire::DescribePayload((*request)->payload, bytes.size(), &header);
  return impl_->Send(*request, header,
                     AsBytes(wire::HelloBody{kPushCreditBytes}));
}

absl::Status DataClient::PutBlocks(const SessionHandle& session, int layer,
                                   int first_block, int block_count,
                                   std::vector<std::byte> payload, Done done) {
  absl::Status status = CheckLayer(session, layer);
  if (!status.ok()) return status;
  if (block_count < 1 || first_block < 0 ||
      first_block > kContextBlocksMax - block_count) {
    return absl::InvalidArgumentError(
        absl::StrCat("blocks ", first_block, " + ", block_count));
  }
  const size_t parts = size_t{1} * session.geometry.kv_heads * block_count;
  const size_t table = parts * sizeof(wire::PartChecksums);
  const size_t wanted = table + parts * session.geometry.BlockBytes();
  if (payload.size() != wanted || wanted > kMessageBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "payload has ", payload.size(), " bytes, must have ", wanted,
        ", at most ", kMessageBytesMax, ": put fewer blocks at once"));
  }
  auto request = impl_->Begin(RequestKind::kPut, session, layer);
  if (!request.ok()) return request.status();
  (*request)->blocks = static_cast<int>(parts);
  (*request)->payload = std::move(payload);
  (*request)->done = std::move(done);
  wire::PutBlocksBody body;
  body.layer = static_cast<uint32_t>(layer);
  body.first_block = static_cast<uint32_t>(first_block);
  body.block_count = static_cast<uint32_t>(block_count);
  wire::WireHeader header = HeaderFor(MessageType::kPutBlocks, session);
  wire::DescribePayload((*request)->payload, table, &header);
  return impl_->Send(*request, header, AsBytes(body));
}

absl::StatusOr<uint64_t> DataClient::Fetch(
    const SessionHandle& session, int layer,
    std::span<const wire::FetchEntry> entries, BlockSink* sink, Done done) {
  absl::Status status = CheckLayer(session, layer);
  if (!status.ok()) return status;
  return impl_->Fetch(session, layer, entries, sink, std::move(done));
}

absl::StatusOr<uint64_t> DataClient::FetchLayers(
    const SessionHandle& session, std::span<const wire::FetchEntry> entries,
    BlockSink* sink, Done done) {
  return impl_->Fetch(session, -1, entries, sink, std::move(done));
}

absl::StatusOr<uint64_t> DataClient::Impl::Fetch(
    const SessionHandle& session, int layer,
    std::span<const wire::FetchEntry> entries, BlockSink* sink,
    DataClient::Done done) {
  if (entries.empty() || entries.size_bytes() > kMessageBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("entries has ", entries.size(), ", must have 1..",
                     kMessageBytesMax / sizeof(wire::FetchEntry)));
  }
  auto started = Begin(RequestKind::kFetch, session, layer);
  if (!started.ok()) return started.status();
  Request* request = *started;
  ByteView bytes = AsBytes(entries);
  request->payload.assign(bytes.begin(), bytes.end());
  auto* copies = reinterpret_cast<wire::FetchEntry*>(request->payload.data());
  for (size_t i = 0; layer >= 0 && i < entries.size(); ++i) {
    copies[i].layer = static_cast<uint16_t>(layer);
  }
  request->answered.assign(entries.size(), false);
  request->unanswered = entries.size();
  request->sink = sink;
  request->done = std::move(done);
  wire::FetchBody body{static_cast<uint32_t>(entries.size()), 0};
  wire::WireHeader header = HeaderFor(MessageType::kFetch, session);
  wire::DescribePayload(request->payload, request->payload.size(), &header);
  const uint64_t id = request->id;
  absl::Status status = Send(request, header, AsBytes(body));
  if (!status.ok()) return status;
  return id;
}

absl::StatusOr<uint64_t> DataClient::Probe(const SessionHandle& session,
                                           int layer, int blocks, float scale,
                                           std::span<const float> q,
                                           ProbeDone done) {
  absl::Status status = CheckLayer(session, layer);
  if (!status.ok()) return status;
  const KvGeometry& geometry = session.geometry;
  const size_t floats =
      size_t{1} * geometry.kv_heads * geometry.group * geometry.head_dim;
  if (blocks < 1 || blocks > kContextBlocksMax || q.size() != floats) {
    return absl::InvalidArgumentError(
        absl::StrCat("blocks is ", blocks, ", must be 1..", kContextBlocksMax,
                     "; q has ", q.size(), " floats, must have ", floats));
  }
  auto request = impl_->Begin(RequestKind::kProbe, session, layer);
  if (!request.ok()) return request.status();
  ByteView bytes = AsBytes(q);
  (*request)->payload.assign(bytes.begin(), bytes.end());
  (*request)->blocks = blocks;
  (*request)->probe_done = std::move(done);
  wire::ProbeBody body;
  body.layer = static_cast<uint32_t>(layer);
  body.blocks = static_cast<uint32_t>(blocks);
  body.scale = scale;
  wire::WireHeader header = HeaderFor(MessageType::kProbe, session);
  wire::DescribePayload((*request)->payload, (*request)->payload.size(),
                        &header);
  const uint64_t id = (*request)->id;
  status = impl_->Send(*request, header, AsBytes(body));
  if (!status.ok()) return status;
  return id;
}

void DataClient::Cancel(uint64_t request_id) {
  Request* request = impl_->requests.Find(request_id);
  if (request == nullptr || (request->kind != RequestKind::kFetch &&
                             request->kind != RequestKind::kProbe &&
                             request->kind != RequestKind::kCorrect)) {
    return;
  }
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(MessageType::kCancel);
  header.epoch = impl_->epoch;
  header.request_id = request_id;
  wire::DescribePayload({}, 0, &header);
  wire::PackedHeader packed = wire::Pack(header, {});
  if (impl_->endpoint != nullptr) {
    // Not sent is not heard: the store then pushes what nobody takes.
    if (impl_->endpoint
            ->Send(packed.view(), {}, [](const absl::Status&) {})
            .ok()) {
      impl_->counters.wire_bytes_sent += packed.size;
    }
  }
  impl_->Fail(request_id, absl::CancelledError("cancelled by the worker"));
}

int DataClient::Progress() {
  int events = impl_->transport->Progress();
  return events + impl_->EndLate();
}

void DataClient::Wait(Nanos timeout) {
  if (Request* oldest = impl_->requests.Oldest()) {
    timeout = std::min(timeout, oldest->deadline - impl_->clock->Now());
  }
  if (timeout > 0) impl_->transport->Wait(timeout);
}

int DataClient::requests_in_flight() const {
  return impl_->requests.under_way();
}

const DataClientCounters& DataClient::counters() const {
  return impl_->counters;
}

std::string DataClient::TransportName() const {
  return impl_->endpoint == nullptr ? "" : impl_->endpoint->TransportName();
}

void DataClient::OnMessage(Endpoint* from, ByteView header, ByteView payload) {
  if (!impl_->muted && from == impl_->endpoint) {
    impl_->OnMessage(header, payload);
  }
}

void DataClient::OnDisconnect(Endpoint* from, const absl::Status& why) {
  if (from != impl_->endpoint) return;
  impl_->endpoint = nullptr;
  if (impl_->muted) return;
  const absl::Status gone = absl::UnavailableError(
      absl::StrCat("store disconnected: ", why.message()));
  if (impl_->hold > 0) return impl_->StartHolding(gone);
  impl_->FailAll(gone);
}

std::vector<std::byte> PackPutPayload(
    const KvGeometry& geometry, int block_count,
    const std::function<const std::byte*(int kv_head, int block)>& k,
    const std::function<const std::byte*(int kv_head, int block)>& v) {
  const size_t part = geometry.PartBytes();
  const size_t parts = size_t{1} * geometry.kv_heads * block_count;
  std::vector<std::byte> payload;
  payload.resize(parts * (sizeof(wire::PartChecksums) + 2 * part));
  std::byte* checksums = payload.data();
  std::byte* k_out = checksums + parts * sizeof(wire::PartChecksums);
  std::byte* v_out = k_out + parts * part;
  for (int head = 0; head < geometry.kv_heads; ++head) {
    for (int block = 0; block < block_count; ++block) {
      const std::byte* k_part = k(head, block);
      const std::byte* v_part = v(head, block);
      wire::PartChecksums sums{Crc32c({k_part, part}), Crc32c({v_part, part})};
      std::memcpy(checksums, &sums, sizeof(sums));
      std::memcpy(k_out, k_part, part);
      std::memcpy(v_out, v_part, part);
      checksums += sizeof(sums);
      k_out += part;
      v_out += part;
    }
  }
  return payload;
}

}  // namespace forecache
