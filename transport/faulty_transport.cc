#include "transport/faulty_transport.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache {

// Threads: its Transport's thread.
class FaultyTransport::FaultyEndpoint
    : public Endpoint,
      public std::enable_shared_from_this<FaultyEndpoint> {
 public:
  FaultyEndpoint(FaultyTransport* transport, Endpoint* inner)
      : inner(inner), transport_(transport) {}

  absl::Status Send(ByteView header, ByteView payload, Done done) override {
    if (header.size() > kHeaderBytesMax || payload.size() > kMessageBytesMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "message of ", header.size(), "+", payload.size(), " bytes"));
    }
    FC_RETURN_IF_ERROR(Admit());
    Held held = Hold(payload, std::move(done));
    held.header.assign(header.begin(), header.end());
    transport_->Accept(std::move(held), /*is_put=*/false);
    return absl::OkStatus();
  }

  absl::Status Put(ByteView source, const std::string& remote_key,
                   uint64_t offset, Done done) override {
    if (source.size() > kMessageBytesMax) {
      return absl::InvalidArgumentError("put is too large");
    }
    if (offset + source.size() < offset) {
      return absl::OutOfRangeError("put passes the end of memory");
    }
    FC_RETURN_IF_ERROR(Admit());
    // An empty put to the last byte finds out what is wrong with the key, now.
    FC_RETURN_IF_ERROR(
        inner->Put({}, remote_key, offset + source.size(), nullptr));
    Held held = Hold(source, std::move(done));
    held.remote_key = remote_key;
    held.offset = offset;
    transport_->Accept(std::move(held), /*is_put=*/true);
    return absl::OkStatus();
  }

  absl::Status SendBy(TransportOperation operation, ByteView header,
                      ByteView payload, Done done) override {
    if (operation != TransportOperation::kAuto &&
        operation != TransportOperation::kEager) {
      return absl::UnimplementedError("faults are of eager messages");
    }
    return Send(header, payload, std::move(done));
  }

  // Faults are of what this side sends: a get passes, but not a partition.
  absl::Status Get(MutableBytes target, const std::string& remote_key,
                   uint64_t offset, Done done) override {
    FC_RETURN_IF_ERROR(Admit());
    if (transport_->Partitioned()) {
      return absl::UnavailableError("a partition lies between");
    }
    ++under_way;
    const absl::Status started = inner->Get(
        target, remote_key, offset,
        [transport = transport_, self = shared_from_this(),
         done](const absl::Status& status) {
          auto end = [self, done](const absl::Status& why) {
            --self->under_way;
            if (done) done(why);
          };
          transport->ended_.emplace_back(std::move(end), status);
        });
    if (!started.ok()) --under_way;
    return started;
  }

  std::string TransportName() const override { return name_; }
  std::string PeerName() const override { return peer_; }

  Endpoint* inner;
  bool dead = false;
  int under_way = 0;  // dones that were not called

 private:
  absl::Status Admit() const {
    if (dead) return absl::UnavailableError("the peer died");
    if (under_way >= kRequestsInFlightMax) {
      return absl::ResourceExhaustedError("too many sends under way");
    }
    return absl::OkStatus();
  }

  Held Hold(ByteView payload, Done done) {
    ++under_way;
    Held held;
    held.endpoint = shared_from_this();
    held.payload.assign(payload.begin(), payload.end());
    held.done = [self = shared_from_this(),
                 done = std::move(done)](const absl::Status& status) {
      --self->under_way;
      if (done) done(status);
    };
    return held;
  }

  FaultyTransport* const transport_;
  const std::string name_ = inner->TransportName();
  const std::string peer_ = inner->PeerName();
};

FaultyTransport::FaultyTransport(std::unique_ptr<Transport> inner,
                                 const FaultOptions& options)
    : inner_(std::move(inner)), options_(options), rng_(options.seed) {
  inner_->SetHandler(this);
}

FaultyTransport::~FaultyTransport() {
  FC_CHECK(!in_progress_) << "destroyed inside its own Progress";
  handler_ = nullptr;
  while (!endpoints_.empty()) {
    FaultyEndpoint* endpoint = endpoints_.begin()->second.get();
    Close(endpoint);
  }
  inner_.reset();  // its last dones land in ended_
  RunEnded();
}

void FaultyTransport::SetHandler(MessageHandler* handler) {
  handler_ = handler;
}

// --- Endpoints --------------------------------------------------------------

FaultyTransport::FaultyEndpoint* FaultyTransport::Wrap(Endpoint* inner) {
  std::shared_ptr<FaultyEndpoint>& endpoint = endpoints_[inner];
  if (endpoint == nullptr) {
    endpoint = std::make_shared<FaultyEndpoint>(this, inner);
  }
  return endpoint.get();
}

absl::StatusOr<Endpoint*> FaultyTransport::Connect(const std::string& address) {
  FC_ASSIGN_OR_RETURN(Endpoint* inner, inner_->Connect(address));
  return Wrap(inner);
}

void FaultyTransport::Close(Endpoint* endpoint) {
  auto* ours = static_cast<FaultyEndpoint*>(endpoint);
  CancelHeld(ours, absl::CancelledError("endpoint closed"));
  std::erase_if(dead_, [&](const auto& dead) { return dead.get() == ours; });
  auto found = endpoints_.find(ours->inner);
  FC_CHECK(found != endpoints_.end() && found->second.get() == ours)
      << "not an endpoint of this transport";
  closed_.push_back(std::move(found->second));
  endpoints_.erase(found);
  inner_->Close(ours->inner);
}

void FaultyTransport::KillPeer(Endpoint* endpoint) {
  auto* ours = static_cast<FaultyEndpoint*>(endpoint);
  if (std::exchange(ours->dead, true)) return;
  ++counts_.deaths;
  CancelHeld(ours, absl::UnavailableError("the peer died"));
  dead_.push_back(ours->shared_from_this());
}

void FaultyTransport::CancelHeld(FaultyEndpoint* endpoint,
                                 const absl::Status& why) {
  std::erase_if(held_, [&](Held& held) {
    if (held.endpoint.get() != endpoint) return false;
    if (held.done) ended_.emplace_back(std::move(held.done), why);
    return true;
  });
}

// --- Faults -----------------------------------------------------------------

bool FaultyTransport::Happens(double chance, char letter) {
  // Drawn even when it can't happen, so that one fault's chance does not shift
  // the others.
  const bool happens = rng_.Uniform() < chance;
  const char mark[] = {letter, happens ? '1' : '0'};
  trace_ = Crc32c(std::as_bytes(std::span(mark)), trace_);
  return happens;
}

void FaultyTransport::Corrupt(Held& held) {
  const size_t size = held.header.size() + held.payload.size();
  const uint64_t place = rng_.Next();
  const uint8_t flip = 1 + rng_.Below(255);
  if (size == 0) return;
  const size_t index = place % size;
  std::byte& victim = index < held.header.size()
                          ? held.header[index]
                          : held.payload[index - held.header.size()];
  victim ^= std::byte{flip};
  ++counts_.corrupted;
}

void FaultyTransport::Accept(Held held, bool is_put) {
  const bool dropped = Happens(options_.drop, 'd') && !is_put;
  const bool delayed = Happens(options_.delay, 'l');
  const int delay = 1 + rng_.Below(std::max(1, options_.delay_max));
  const bool duplicated = Happens(options_.duplicate, 'u') && !is_put;
  const bool reordered = Happens(options_.reorder, 'r') && !is_put;
  const bool corrupted = Happens(options_.corrupt, 'c');
  const bool killed = Happens(options_.death, 'k');

  if (killed) {
    ended_.emplace_back(std::move(held.done),
                        absl::UnavailableError("the peer died"));
    KillPeer(held.endpoint.get());
    return;
  }
  if (dropped || (Partitioned() && !is_put)) {
    counts_.dropped += dropped;
    ended_.emplace_back(std::move(held.done), absl::OkStatus());
    return;
  }
  if (corrupted) Corrupt(held);
  if (delayed) {
    held.wait = delay;
    ++counts_.delayed;
  }
  if (duplicated) {
    Held twin = held;
    twin.done = nullptr;
    held_.push_back(std::move(twin));
    ++counts_.duplicated;
  }
  // Whoever waits to be overtaken is, by this one.
  for (Held& other : held_) {
    if (other.endpoint == held.endpoint && other.until_overtaken) {
      other.until_overtaken = false;
      other.wait = std::max(other.wait, held.wait + 1);
    }
  }
  if (reordered) {
    held.until_overtaken = true;
    held.wait = std::max(held.wait, options_.delay_max);
    ++counts_.reordered;
  }
  held_.push_back(std::move(held));
}

// --- Progress ---------------------------------------------------------------

bool FaultyTransport::Forward(Held& held) {
  // The copy lives until the inner transport lets go of it.
  auto kept = std::make_shared<Held>(std::move(held));
  auto done = [this, kept](const absl::Status& status) {
    if (kept->done) ended_.emplace_back(std::move(kept->done), status);
  };
  Endpoint* inner = kept->endpoint->inner;
  const absl::Status sent =
      kept->remote_key.empty()
          ? inner->Send(kept->header, kept->payload, done)
          : inner->Put(kept->payload, kept->remote_key, kept->offset, done);
  if (absl::IsResourceExhausted(sent)) {
    held = std::move(*kept);
    return false;
  }
  if (!sent.ok()) done(sent);
  return true;
}

int FaultyTransport::Release() {
  int count = 0;
  std::deque<Held> held = std::exchange(held_, {});
  for (Held& each : held) {
    if (each.wait > 0) --each.wait;
    const bool due = each.wait == 0 && !Partitioned();
    if (due && Forward(each)) {
      ++count;
    } else {
      held_.push_back(std::move(each));
    }
  }
  return count;
}

int FaultyTransport::RunEnded() {
  auto ended = std::exchange(ended_, {});
  for (auto& [done, status] : ended) {
    if (done) done(status);
  }
  return ended.size();
}

int FaultyTransport::Progress() {
  FC_CHECK(!in_progress_) << "Progress called from a callback";
  in_progress_ = true;
  closed_.clear();
  if (partition_left_ > 0) --partition_left_;
  if (Happens(options_.partition, 'p')) {
    partition_left_ = 1 + rng_.Below(std::max(1, options_.partition_max));
    ++counts_.partitions;
  }
  int events = Release();
  events += inner_->Progress();
  for (auto& dead : std::exchange(dead_, {})) {
    Endpoint* inner = dead->inner;
    endpoints_.erase(inner);
    closed_.push_back(dead);
    inner_->Close(inner);
    const auto why = absl::UnavailableError("the peer died");
    if (handler_ != nullptr) handler_->OnDisconnect(dead.get(), why);
    ++events;
  }
  events += RunEnded();
  in_progress_ = false;
  return events;
}

void FaultyTransport::Wait(Nanos timeout) {
  if (!ended_.empty() || !dead_.empty()) return;
  // What is held back counts Progress calls, not time.
  if (!held_.empty() || partition_left_ > 0) {
    timeout = std::min(timeout, 50 * kMicrosecond);
  }
  inner_->Wait(timeout);
}

void FaultyTransport::OnMessage(Endpoint* from, ByteView header,
                                ByteView payload) {
  FaultyEndpoint* endpoint = Wrap(from);
  if (Partitioned() || endpoint->dead || handler_ == nullptr) return;
  handler_->OnMessage(endpoint, header, payload);
}

void FaultyTransport::OnDisconnect(Endpoint* from, const absl::Status& why) {
  auto found = endpoints_.find(from);
  if (found == endpoints_.end()) return;
  std::shared_ptr<FaultyEndpoint> endpoint = std::move(found->second);
  endpoints_.erase(found);
  closed_.push_back(endpoint);
  CancelHeld(endpoint.get(), why);
  std::erase(dead_, endpoint);
  if (handler_ != nullptr) handler_->OnDisconnect(endpoint.get(), why);
}

}  // namespace forecache
