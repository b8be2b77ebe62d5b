// What the transport tests share: a handler that records, and a pair of
// transports that one thread drives.
#ifndef FORECACHE_TESTS_TRANSPORT_TESTING_H_
#define FORECACHE_TESTS_TRANSPORT_TESTING_H_

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "transport/transport.h"

namespace forecache {

inline std::string ToString(ByteView bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// A view, not a copy: a payload must outlive its send, as literals do.
inline ByteView ToBytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

// Bytes that tell which message they belong to.
inline std::string Pattern(size_t size, uint64_t seed) {
  std::string bytes(size, '\0');
  uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
  for (char& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<char>(state >> 56);
  }
  return bytes;
}

// Keeps every message; `on_message` runs after.
//
// Threads: its transport's thread.
class Recorder : public MessageHandler {
 public:
  struct Message {
    Endpoint* from;
    std::string header;
    std::string payload;
  };

  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override {
    if (keep) messages.push_back({from, ToString(header), ToString(payload)});
    ++count;
    if (on_message) on_message(from, header, payload);
  }
  void OnDisconnect(Endpoint* from, const absl::Status& why) override {
    gone.emplace_back(from, why);
  }

  bool keep = true;
  size_t count = 0;
  std::vector<Message> messages;
  std::vector<std::pair<Endpoint*, absl::Status>> gone;
  std::function<void(Endpoint*, ByteView, ByteView)> on_message;
};

// A transport and what it heard.
//
// Threads: one.
struct Node {
  explicit Node(std::unique_ptr<Transport> made) : transport(std::move(made)) {
    transport->SetHandler(&heard);
  }
  Recorder heard;
  std::unique_ptr<Transport> transport;
};

// Makes progress on all nodes until `done()`; false after `limit`.
inline bool Pump(std::vector<Node*> nodes, const std::function<bool()>& done,
                 Nanos limit = 30 * kSecond) {
  const Nanos deadline = Clock::Real()->Now() + limit;
  while (!done()) {
    int events = 0;
    for (Node* node : nodes) events += node->transport->Progress();
    if (events > 0) continue;
    if (Clock::Real()->Now() > deadline) return false;
    nodes[0]->transport->Wait(20 * kMicrosecond);
  }
  return true;
}

// Makes progress until nothing has happened for `quiet`.
inline void Settle(std::vector<Node*> nodes, Nanos quiet = 20 * kMillisecond) {
  Nanos last = Clock::Real()->Now();
  while (Clock::Real()->Now() - last < quiet) {
    for (Node* node : nodes) {
      if (node->transport->Progress() > 0) last = Clock::Real()->Now();
    }
  }
}

}  // namespace forecache

#endif  // FORECACHE_TESTS_TRANSPORT_TESTING_H_
