// Private to data_client*.cc.
#ifndef FORECACHE_KVSTORE_CLIENT_DATA_CLIENT_IMPL_H_
#define FORECACHE_KVSTORE_CLIENT_DATA_CLIENT_IMPL_H_

#include <vector>

#include "common/limits.h"
#include "kvstore/client/data_client.h"
#include "kvstore/client/request_table.h"

namespace forecache {

// Threads: as DataClient.
struct DataClient::Impl {
  Impl(Transport* transport, Clock* clock)
      : transport(transport), clock(clock), requests(kRequestsInFlightMax) {}

  // A request of a session with its deadline.
  absl::StatusOr<Request*> Begin(RequestKind kind, const SessionHandle& session,
                                 int layer);
  // Sends the request's payload behind `header`; on an error it is ended.
  absl::Status Send(Request* request, wire::WireHeader header, ByteView body);

  void OnMessage(ByteView header, ByteView payload);
  void OnPush(Request* request, const wire::Message& message);
  void OnProbeReply(Request* request, const wire::Message& message);
  void OnError(const wire::Message& message);
  void OnOtherVersion(const absl::Status& why);

  // Answers one entry of a fetch, when the push's entry is one that was asked
  // for; `hint` is where to look first, and moves on.
  void TakeBlock(Request* request, const wire::PushEntry& entry, ByteView k,
                 ByteView v, size_t* hint);
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

  Transport* const transport;
  Clock* const clock;
  Endpoint* endpoint = nullptr;
  uint32_t epoch = 0;
  bool muted = false;  // the client is being destroyed
  RequestTable requests;
  DataClientCounters counters;
  std::vector<std::byte> aligned;  // a probe's reply that came misaligned
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_DATA_CLIENT_IMPL_H_
