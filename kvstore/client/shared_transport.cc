#include "kvstore/client/shared_transport.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/check.h"

namespace forecache {

// Threads: the transport's.
class SharedTransport::Port : public Transport {
 public:
  explicit Port(SharedTransport* owner) : owner_(owner) {}

  void SetHandler(MessageHandler* handler) override { handler_ = handler; }
  std::string Address() const override { return owner_->inner_->Address(); }

  absl::StatusOr<Endpoint*> Connect(const std::string& address) override {
    FC_CHECK(endpoint_ == nullptr) << "a port has one endpoint";
    auto endpoint = owner_->inner_->Connect(address);
    if (endpoint.ok()) endpoint_ = *endpoint;
    return endpoint;
  }

  void Close(Endpoint* endpoint) override {
    if (endpoint == endpoint_) endpoint_ = nullptr;
    owner_->inner_->Close(endpoint);
  }

  absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(
      MutableBytes memory) override {
    return owner_->inner_->Register(memory);
  }

  int Progress() override {
    return owner_->in_round_ ? 0 : owner_->inner_->Progress();
  }

  void Wait(Nanos timeout) override {
    if (!owner_->in_round_) return owner_->inner_->Wait(timeout);
    owner_->waits_.push_back(timeout);
  }

  void Wake() override { owner_->inner_->Wake(); }

 private:
  friend class SharedTransport;
  SharedTransport* const owner_;
  MessageHandler* handler_ = nullptr;
  Endpoint* endpoint_ = nullptr;
  bool heard_ = false;
};

SharedTransport::SharedTransport(Transport* inner, int ports)
    : inner_(inner) {
  for (int i = 0; i < ports; ++i) {
    ports_.push_back(std::make_unique<Port>(this));
  }
  inner->SetHandler(this);
}

SharedTransport::~SharedTransport() = default;

Transport* SharedTransport::port(int number) { return ports_[number].get(); }

int SharedTransport::Progress() { return inner_->Progress(); }

void SharedTransport::Wait(Nanos timeout) { inner_->Wait(timeout); }

Nanos SharedTransport::EndRound() {
  in_round_ = false;
  const bool all = waits_.size() == ports_.size();
  const Nanos shortest =
      all ? *std::min_element(waits_.begin(), waits_.end()) : 0;
  waits_.clear();
  return shortest;
}

bool SharedTransport::TakeHeard(int number) {
  return std::exchange(ports_[number]->heard_, false);
}

bool SharedTransport::connected(int number) const {
  return ports_[number]->endpoint_ != nullptr;
}

void SharedTransport::Drop(int number, const absl::Status& why) {
  Endpoint* endpoint = std::exchange(ports_[number]->endpoint_, nullptr);
  if (endpoint == nullptr) return;
  ports_[number]->handler_->OnDisconnect(endpoint, why);
  inner_->Close(endpoint);
}

SharedTransport::Port* SharedTransport::PortOf(Endpoint* endpoint) {
  for (auto& port : ports_) {  // a handful: no map is faster
    if (port->endpoint_ == endpoint) return port.get();
  }
  return nullptr;
}

void SharedTransport::OnMessage(Endpoint* from, ByteView header,
                                ByteView payload) {
  Port* port = PortOf(from);
  if (port == nullptr || muted_) return;
  port->heard_ = true;
  port->handler_->OnMessage(from, header, payload);
}

void SharedTransport::OnDisconnect(Endpoint* from, const absl::Status& why) {
  Port* port = PortOf(from);
  if (port == nullptr) return;
  port->endpoint_ = nullptr;
  if (!muted_) port->handler_->OnDisconnect(from, why);
}

}  // namespace forecache
