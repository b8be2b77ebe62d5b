#include "transport/loopback_transport.h"

#include <deque>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/status.h"
#include "transport/loopback_fabric.h"

namespace forecache {
namespace loopback_internal {

constexpr char kAddressPrefix[] = "loopback:";
constexpr char kRegionPrefix[] = "loopback-region:";

// Threads: its Transport's thread, but RemoteKey() and bytes() from any.
class LoopbackRegion : public MemoryRegion {
 public:
  explicit LoopbackRegion(MutableBytes bytes)
      : bytes_(bytes), id_(Directory::Get()->AddRegion(bytes)) {}
  ~LoopbackRegion() override { Directory::Get()->RemoveRegion(id_); }
  MutableBytes bytes() const override { return bytes_; }
  // The prefix, the id, a colon, the size.
  std::string RemoteKey() const override {
    return absl::StrCat(kRegionPrefix, id_, ":", bytes_.size());
  }

 private:
  const MutableBytes bytes_;
  const uint64_t id_;
};

// Threads: its Transport's thread.
class LoopbackEndpoint : public Endpoint {
 public:
  LoopbackEndpoint(std::shared_ptr<Link> link, int side)
      : link_(std::move(link)), side_(side) {}

  absl::Status Send(ByteView header, ByteView payload, Done done) override {
    if (header.size() > kHeaderBytesMax || payload.size() > kMessageBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "message of ", header.size(), "+", payload.size(), " bytes"));
    }
    FC_RETURN_IF_ERROR(Admit());
    Operation send;
    send.number = next_number_++;
    send.header.assign(header.begin(), header.end());
    send.source = payload;
    send.done = std::move(done);
    outbox_.push_back(std::move(send));
    return absl::OkStatus();
  }

  absl::Status Put(ByteView source, const std::string& remote_key,
                   uint64_t offset, Done done) override {
    Operation put;
    put.source = source;
    return StartRemote(std::move(put), source.size(), remote_key, offset,
                       std::move(done));
  }

  absl::Status Get(MutableBytes target, const std::string& remote_key,
                   uint64_t offset, Done done) override {
    Operation get;
    get.target = target;
    return StartRemote(std::move(get), target.size(), remote_key, offset,
                       std::move(done));
  }

  absl::Status SendBy(TransportOperation operation, ByteView header,
                      ByteView payload, Done done) override {
    if (operation != TransportOperation::kAuto &&
        operation != TransportOperation::kEager) {
      return absl::UnimplementedError("a loopback message is eager");
    }
    return Send(header, payload, std::move(done));
  }

  std::string TransportName() const override { return "loopback"; }
  std::string PeerName() const override {
    const auto& peer = link_->inbox[1 - side_];
    return peer == nullptr ? "loopback:nobody"
                           : absl::StrCat(kAddressPrefix, peer->id);
  }

  // Carries out what Send and Put queued.  Returns how many.
  int Flush() {
    int count = 0;
    for (size_t left = outbox_.size(); left > 0 && !outbox_.empty(); --left) {
      Operation operation = std::move(outbox_.front());
      outbox_.pop_front();
      ++count;
      if (operation.region == 0) {
        FlushSend(std::move(operation));
      } else {
        const absl::Status status =
            operation.target.empty()
                ? Directory::Get()->WriteRegion(
                      operation.region, operation.offset, operation.source)
                : Directory::Get()->ReadRegion(
                      operation.region, operation.offset, operation.target);
        if (operation.done) operation.done(status);
      }
    }
    return count;
  }

  // The receiver took send `number` out of its inbox.
  void Taken(uint64_t number) {
    FC_CHECK(!taking_.empty() && taking_.front().number == number);
    Done done = std::move(taking_.front().done);
    taking_.pop_front();
    if (done) done(absl::OkStatus());
  }

  // Ends everything under way.
  void Fail(const absl::Status& why) {
    closed_ = true;
    for (auto* queue : {&taking_, &outbox_}) {
      std::deque<Operation> operations = std::exchange(*queue, {});
      for (Operation& operation : operations) {
        if (operation.done) operation.done(why);
      }
    }
  }

  size_t under_way() const { return outbox_.size() + taking_.size(); }
  bool HasWork() const { return !outbox_.empty(); }
  const std::shared_ptr<Link>& link() const { return link_; }
  int side() const { return side_; }

 private:
  struct Operation {
    uint64_t number = 0;
    uint64_t region = 0;  // not 0: a put, or with a target a get
    uint64_t offset = 0;
    std::vector<std::byte> header;
    ByteView source;
    MutableBytes target;
    Done done;
  };

  absl::Status StartRemote(Operation operation, size_t size,
                           const std::string& remote_key, uint64_t offset,
                           Done done) {
    uint64_t region_size = 0;
    const std::pair<absl::string_view, absl::string_view> parts =
        absl::StrSplit(absl::StripPrefix(remote_key, kRegionPrefix),
                       absl::MaxSplits(':', 1));
    if (size > kMessageBytesMax ||
        !absl::StartsWith(remote_key, kRegionPrefix) ||
        !absl::SimpleAtoi(parts.first, &operation.region) ||
        !absl::SimpleAtoi(parts.second, &region_size)) {
      return absl::InvalidArgumentError("too large, or no key of ours");
    }
    if (offset > region_size || size > region_size - offset) {
      return absl::OutOfRangeError("offset passes the end of the region");
    }
    FC_RETURN_IF_ERROR(Admit());
    operation.offset = offset;
    operation.done = std::move(done);
    outbox_.push_back(std::move(operation));
    return absl::OkStatus();
  }

  absl::Status Admit() {
    const auto& peer = link_->inbox[1 - side_];
    if (closed_ || peer == nullptr || peer->gone()) {
      return absl::UnavailableError(absl::StrCat(PeerName(), " is gone"));
    }
    if (outbox_.size() + taking_.size() >= kRequestsInFlightMax) {
      return absl::ResourceExhaustedError(
          absl::StrCat("too many sends under way to ", PeerName()));
    }
    return absl::OkStatus();
  }

  void FlushSend(Operation send) {
    Packet packet{PacketKind::kMessage, link_, 1 - side_, send.number};
    packet.header = std::move(send.header);
    packet.payload.assign(send.source.begin(), send.source.end());
    if (link_->inbox[1 - side_]->Push(std::move(packet))) {
      taking_.push_back(std::move(send));
    } else if (send.done) {
      send.done(absl::UnavailableError(absl::StrCat(PeerName(), " is gone")));
    }
  }

  const std::shared_ptr<Link> link_;
  const int side_;
  bool closed_ = false;
  uint64_t next_number_ = 1;
  std::deque<Operation> outbox_;  // until our next Progress
  std::deque<Operation> taking_;  // in the peer's inbox
};

}  // namespace loopback_internal

using loopback_internal::Directory;
using loopback_internal::kAddressPrefix;
using loopback_internal::Link;
using loopback_internal::LoopbackRegion;
using loopback_internal::Packet;
using loopback_internal::PacketKind;

LoopbackTransport::LoopbackTransport() : inbox_(Directory::Get()->Join()) {}

LoopbackTransport::~LoopbackTransport() {
  FC_CHECK(!in_progress_) << "destroyed inside its own Progress";
  Directory::Get()->Leave(inbox_->id);
  while (!endpoints_.empty()) Close(endpoints_.begin()->second.get());
  // Peers whose first message was never read learn of the end as well.
  for (Packet& packet : inbox_->Shut()) {
    const int peer = 1 - packet.side;
    if (packet.kind != PacketKind::kMessage) continue;
    packet.link->inbox[peer]->Push({PacketKind::kClosed, packet.link, peer, 0});
  }
}

void LoopbackTransport::SetHandler(MessageHandler* handler) {
  handler_ = handler;
}

std::string LoopbackTransport::Address() const {
  return absl::StrCat(kAddressPrefix, inbox_->id);
}

absl::StatusOr<Endpoint*> LoopbackTransport::Connect(
    const std::string& address) {
  uint64_t id;
  if (!absl::StartsWith(address, kAddressPrefix) ||
      !absl::SimpleAtoi(absl::StripPrefix(address, kAddressPrefix), &id)) {
    return absl::InvalidArgumentError("not a loopback address");
  }
  auto link = std::make_shared<Link>();
  link->id = Directory::Get()->NextId();
  link->inbox[0] = inbox_;
  link->inbox[1] = Directory::Get()->Find(id);
  auto endpoint = std::make_unique<LoopbackEndpoint>(link, 0);
  Endpoint* result = endpoint.get();
  endpoints_[link->id] = std::move(endpoint);
  return result;
}

void LoopbackTransport::Close(Endpoint* endpoint) {
  auto* ours = static_cast<LoopbackEndpoint*>(endpoint);
  const std::shared_ptr<Link> link = ours->link();
  const int peer = 1 - ours->side();
  FC_CHECK(!link->closed[ours->side()]) << "endpoint closed twice";
  Remove(ours, absl::CancelledError("endpoint closed"));
  if (link->inbox[peer] != nullptr) {
    link->inbox[peer]->Push({PacketKind::kClosed, link, peer, 0});
  }
}

void LoopbackTransport::Remove(LoopbackEndpoint* endpoint,
                               const absl::Status& why) {
  endpoint->link()->closed[endpoint->side()] = true;
  auto found = endpoints_.find(endpoint->link()->id);
  FC_CHECK(found != endpoints_.end()) << "not an endpoint of this transport";
  closed_.push_back(std::move(found->second));
  endpoints_.erase(found);
  endpoint->Fail(why);
}

absl::StatusOr<std::unique_ptr<MemoryRegion>> LoopbackTransport::Register(
    MutableBytes memory) {
  return std::make_unique<LoopbackRegion>(memory);
}

TransportCounts LoopbackTransport::Counts() const {
  TransportCounts counts;
  counts.endpoints = endpoints_.size() + closed_.size();
  for (const auto& [link, endpoint] : endpoints_) {
    counts.operations += endpoint->under_way();
  }
  return counts;
}

int LoopbackTransport::Progress() {
  FC_CHECK(!in_progress_) << "Progress called from a callback";
  in_progress_ = true;
  closed_.clear();
  int events = Flush();
  for (Packet& packet : inbox_->TakeAll()) {
    Deliver(packet);
    ++events;
  }
  in_progress_ = false;
  return events;
}

int LoopbackTransport::Flush() {
  // Callbacks may connect and close: walk a copy of what has work.
  std::vector<uint64_t> busy;  // links
  for (const auto& [link, endpoint] : endpoints_) {
    if (endpoint->HasWork()) busy.push_back(link);
  }
  int events = 0;
  for (uint64_t link : busy) {
    auto found = endpoints_.find(link);
    if (found != endpoints_.end()) events += found->second->Flush();
  }
  return events;
}

LoopbackTransport::LoopbackEndpoint* LoopbackTransport::Find(
    const std::shared_ptr<Link>& link, int side) {
  if (link->closed[side]) return nullptr;
  auto& endpoint = endpoints_[link->id];
  if (endpoint == nullptr) {
    endpoint = std::make_unique<LoopbackEndpoint>(link, side);
  }
  return endpoint.get();
}

void LoopbackTransport::Deliver(Packet& packet) {
  // The end of a link that nothing came on is nobody's business.
  if (packet.kind == PacketKind::kClosed &&
      endpoints_.count(packet.link->id) == 0) {
    packet.link->closed[packet.side] = true;
  }
  LoopbackEndpoint* endpoint = Find(packet.link, packet.side);
  if (endpoint == nullptr) return;
  switch (packet.kind) {
    case PacketKind::kMessage:
      packet.link->inbox[1 - packet.side]->Push(
          {PacketKind::kTaken, packet.link, 1 - packet.side, packet.number});
      FC_CHECK(handler_ != nullptr) << "a message, but no handler";
      handler_->OnMessage(endpoint, packet.header, packet.payload);
      break;
    case PacketKind::kTaken:
      endpoint->Taken(packet.number);
      break;
    case PacketKind::kClosed: {
      const auto why = absl::UnavailableError(
          absl::StrCat(endpoint->PeerName(), " closed the connection"));
      Remove(endpoint, why);
      if (handler_ != nullptr) handler_->OnDisconnect(endpoint, why);
      break;
    }
  }
}

void LoopbackTransport::Wait(Nanos timeout) {
  FC_CHECK(!in_progress_) << "Wait called from a callback";
  for (const auto& [link, endpoint] : endpoints_) {
    if (endpoint->HasWork()) return;
  }
  inbox_->Wait(timeout);
}

void LoopbackTransport::Wake() { inbox_->Wake(); }

}  // namespace forecache
