// A transport that plants a mistake: pushes bring another block's bytes, with
// checksums to match, as a store would that mixes blocks up.
#ifndef FORECACHE_TESTS_SIM_FOREIGN_TRANSPORT_H_
#define FORECACHE_TESTS_SIM_FOREIGN_TRANSPORT_H_

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvstore/wire.h"
#include "tests/kvstore/context.h"
#include "transport/loopback_transport.h"

namespace forecache {

// Threads: one thread.
class ForeignTransport : public Transport, public MessageHandler {
 public:
  explicit ForeignTransport(bool active) : active_(active) {}

  void SetHandler(MessageHandler* handler) override {
    handler_ = handler;
    inner_.SetHandler(this);
  }
  std::string Address() const override { return inner_.Address(); }
  absl::StatusOr<Endpoint*> Connect(const std::string& address) override {
    return inner_.Connect(address);
  }
  void Close(Endpoint* endpoint) override { inner_.Close(endpoint); }
  absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(
      MutableBytes memory) override {
    return inner_.Register(memory);
  }
  int Progress() override { return inner_.Progress(); }
  void Wait(Nanos timeout) override { inner_.Wait(timeout); }
  void Wake() override { inner_.Wake(); }

  void OnDisconnect(Endpoint* from, const absl::Status& why) override {
    handler_->OnDisconnect(from, why);
  }
  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override {
    const auto message = wire::Parse(header, payload);
    if (!active_ || !message.ok() ||
        message->type() != wire::MessageType::kPush) {
      return handler_->OnMessage(from, header, payload);
    }
    const auto body = wire::BodyOf<wire::PushBody>(*message);
    std::vector<std::byte> mixed(payload.begin(), payload.end());
    const size_t table = body->count * sizeof(wire::PushEntry);
    const size_t block = kTestGeometry.BlockBytes();
    if (body->count < 2 || mixed.size() - table != body->count * block) {
      return handler_->OnMessage(from, header, payload);  // not all came
    }
    // The first two blocks change places, checksums and all.
    wire::PushEntry a, b;
    std::memcpy(&a, mixed.data(), sizeof(a));
    std::memcpy(&b, mixed.data() + sizeof(a), sizeof(b));
    std::swap(a.checksums, b.checksums);
    std::memcpy(mixed.data(), &a, sizeof(a));
    std::memcpy(mixed.data() + sizeof(a), &b, sizeof(b));
    std::swap_ranges(mixed.begin() + table, mixed.begin() + table + block,
                     mixed.begin() + table + block);
    wire::WireHeader again = message->header;
    wire::DescribePayload(mixed, table, &again);
    handler_->OnMessage(from, wire::Pack(again, message->body).view(), mixed);
  }

 private:
  const bool active_;
  LoopbackTransport inner_;
  MessageHandler* handler_ = nullptr;
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_SIM_FOREIGN_TRANSPORT_H_
