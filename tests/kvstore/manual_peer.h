// A peer of the data plane that sends whatever a test wants.
#ifndef FORECACHE_TESTS_KVSTORE_MANUAL_PEER_H_
#define FORECACHE_TESTS_KVSTORE_MANUAL_PEER_H_

#include <gtest/gtest.h>

#include <deque>
#include <utility>
#include <vector>

#include "kvstore/client/data_client.h"
#include "kvstore/wire.h"
#include "transport/loopback_transport.h"

namespace forecache {

// Takes the place of a store or a worker: records, and answers as told.
//
// Threads: one thread.
class ManualPeer : public MessageHandler {
 public:
  using Bytes = std::vector<std::byte>;

  ManualPeer() { transport_.SetHandler(this); }

  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override {
    headers.emplace_back(header.begin(), header.end());
    payloads.emplace_back(payload.begin(), payload.end());
    peer = from;
  }
  void OnDisconnect(Endpoint* from, const absl::Status& why) override {
    peer = nullptr;
    ++disconnects;
  }

  void Send(Endpoint* to, Bytes header, Bytes payload) {
    payloads_sent.push_back(std::move(payload));
    ASSERT_EQ(to->Send(header, payloads_sent.back(),
                       [](const absl::Status&) {}),
              absl::OkStatus());
  }

  // The newest message, parsed.
  wire::Message Last() {
    auto message = wire::Parse(headers.back(), payloads.back());
    EXPECT_EQ(message.status(), absl::OkStatus());
    return message.ok() ? *message : wire::Message();
  }

  LoopbackTransport transport_;
  std::vector<Bytes> headers, payloads;
  std::deque<Bytes> payloads_sent;
  Endpoint* peer = nullptr;
  int disconnects = 0;
};

inline ManualPeer::Bytes Packed(wire::MessageType type, uint32_t epoch,
                                uint64_t id, const SessionHandle& session,
                                ByteView body, ByteView payload,
                                size_t checked) {
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(type);
  header.epoch = epoch;
  header.request_id = id;
  header.session_id = session.id;
  header.session_key[0] = session.key[0];
  header.session_key[1] = session.key[1];
  wire::DescribePayload(payload, checked, &header);
  wire::PackedHeader packed = wire::Pack(header, body);
  return {packed.view().begin(), packed.view().end()};
}

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_MANUAL_PEER_H_
