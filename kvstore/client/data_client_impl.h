// Private to data_client*.cc.
#ifndef FORECACHE_KVSTORE_CLIENT_DATA_CLIENT_IMPL_H_
#define FORECACHE_KVSTORE_CLIENT_DATA_CLIENT_IMPL_H_

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "kvstore/client/data_client.h"
#include "kvstore/client/request_table.h"

namespace forecache {

namespace client_internal {

inline absl::Status CheckLayer(const SessionHandle& session, int layer) {
  if (layer >= 0 && layer < session.geometry.layers) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "layer is ", layer, ", must be below ", session.geometry.layers));
}

inline wire::WireHeader HeaderFor(wire::MessageType type,
                                  const SessionHandle& session) {
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(type);
  header.session_id = session.id;
  header.session_key[0] = session.key[0];
  header.session_key[1] = session.key[1];
  return header;
}

}  // namespace client_internal

// Threads: as DataClient.
struct DataClient::Impl {
  struct Restoring;

  Impl(Transport* transport, Clock* clock)
      : transport(transport), clock(clock), requests(kRequestsInFlightMax) {}

  // A request of a session with its deadline.
  absl::StatusOr<Request*> Begin(RequestKind kind, const SessionHandle& session,
                                 int layer);
  // A fetch of `layer`, or of the entries' own layers when it is negative.
  absl::StatusOr<uint64_t> Fetch(const SessionHandle& session, int layer,
                                 std::span<const wire::FetchEntry> entries,
                                 BlockSink* sink, DataClient::Done done);
  // Sends the request's payload behind `header`, or lets it wait; on an error
  // it is ended.
  absl::Status Send(Request* request, wire::WireHeader header, ByteView body);
  // Sends it as it is, whatever waits.
  absl::Status SendNow(Request* request);

  void OnMessage(ByteView header, ByteView payload);
  // Tells the store now and then how much of its pushes arrived.
  void TakeCredit(const wire::Message& push);
  void OnPush(Request* request, const wire::Message& message);
  void OnProbeReply(Request* request, const wire::Message& message);
  void OnCorrectReply(Request* request, const wire::Message& message);
  void OnError(const wire::Message& message);
  void OnOtherVersion(const absl::Status& why);

  // Answers one entry of a fetch, when the push's entry is one that was asked
  // for; `hint` is where to look first, and moves on.
  void TakeBlock(Request* request, const wire::PushEntry& entry, ByteView k,
                 ByteView v, size_t* hint);
  // The same for a correction's slot.
  void TakeSlot(Request* request, const wire::PushEntry& entry, ByteView k,
                ByteView v);
  // Checks a pushed block's bytes; counts what is refused.
  absl::Status CheckBlock(const wire::PushEntry& entry, ByteView k, ByteView v);
  // Tells the sink of a request that one of its answers will not come.
  void FailAnswer(Request* request, size_t index, const absl::Status& why);
  // Gives the slots back that the reply does not speak of.  False when the sink
  // ended the request meanwhile.
  bool ReturnUnused(Request* request,
                    std::span<const wire::CorrectedHead> heads);
  // Ends a request well.
  void Finish(Request* request);
  // Ends a request, and each entry of it that is unanswered, with `why`.  No
  // request of that id: nothing.
  void Fail(uint64_t id, const absl::Status& why);
  void FailAll(const absl::Status& why);
  // Closes the connection, if there is one, and fails what is under way.
  void Disconnect(const absl::Status& why);
  // Ends what is past its deadline; returns how many.
  int EndLate();

  // --- data_client_hold.cc ---
  bool MayHold() const {
    return holding && clock->Now() < hold_until;
  }
  // The connection is gone: what is under way waits.
  void StartHolding(const absl::Status& why);
  // A put was acknowledged.
  void Keep(Request* request);
  void RestoreNext(std::shared_ptr<Restoring> restoring);

  // A put that a store acknowledged, and may lose.
  struct KeptPut {
    uint64_t session = 0;
    KvGeometry geometry;
    wire::PutBlocksBody body;
    std::vector<std::byte> payload;
  };

  Transport* const transport;
  Clock* const clock;
  Endpoint* endpoint = nullptr;
  uint32_t epoch = 0;
  // Of pushes on this connection: wire::PushBody::sent as seen, and as told.
  uint64_t pushes_taken = 0;
  uint64_t pushes_told = 0;
  bool muted = false;  // the client is being destroyed
  RequestTable requests;
  DataClientCounters counters;
  std::vector<std::byte> aligned;  // a probe's reply that came misaligned
  Nanos hold = 0;  // 0: a lost connection fails its requests
  bool holding = false;
  Nanos hold_until = 0;
  bool keeps = false;  // the store is durable
  std::deque<KeptPut> kept;
  // What sessions are called at the store since it came back.
  std::unordered_map<uint64_t, SessionHandle> renamed;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_DATA_CLIENT_IMPL_H_
