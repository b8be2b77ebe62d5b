#include "transport/probed_transport.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/log.h"

namespace forecache {
namespace {

constexpr uint32_t kMagic = 0x31544346;  // "FCT1"
enum class Turn : uint32_t {
  kYours = 1,  // I have measured, now you may
  kOver = 2,   // I have measured, or will not
};
struct TurnFrame {
  uint32_t magic = kMagic;
  Turn turn;
};
static_assert(sizeof(TurnFrame) == 8);

// Each side has half.
constexpr Nanos kProbeShare = kTransportProbeTimeout / 2;
// A mailbox opens within a round trip or two.
constexpr Nanos kMailboxWait = 20 * kMillisecond;
// How often deadlines are looked at in a sleep.
constexpr Nanos kTickWait = 10 * kMillisecond;

constexpr char kSelected[] = "forecache_transport_selected";
constexpr char kRate[] = "forecache_transport_probed_bytes_per_second";

void SendTurn(Endpoint* to, Turn turn) {
  const TurnFrame frame = {.turn = turn};
  // One that cannot be sent is left to the peer's deadline.
  (void)to->Send(AsBytes(frame), {}, nullptr);
}

}  // namespace

ProbedTransport::ProbedTransport(std::unique_ptr<Transport> inner,
                                 const ProbedTransportOptions& options)
    : options_(options),
      probe_(std::make_unique<TransportProbe>(inner.get(), options.clock)),
      inner_(std::move(inner)),
      slots_(kTransportPeersExported, false),
      gauges_(kTransportPeersExported) {
  inner_->SetHandler(this);
}

ProbedTransport::~ProbedTransport() {
  probe_->Stop();
  inner_.reset();
}

void ProbedTransport::AwaitSettled(Nanos timeout) {
  absl::MutexLock lock(&mutex_);
  settled_.AwaitFor(&mutex_, timeout,
                    [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
                      return unsettled_ == 0;
                    });
}

void ProbedTransport::SetHandler(MessageHandler* handler) {
  handler_ = handler;
}

absl::StatusOr<Endpoint*> ProbedTransport::Connect(
    const std::string& address) {
  auto endpoint = inner_->Connect(address);
  if (endpoint.ok()) peers_[*endpoint].connected_by_us = true;
  return endpoint;
}

void ProbedTransport::Close(Endpoint* endpoint) {
  probe_->OnDisconnect(endpoint);
  Forget(endpoint);
  inner_->Close(endpoint);
}

int ProbedTransport::Progress() {
  const int events = inner_->Progress();
  if (moving_ > 0) {
    probe_->Tick();
    Advance();
  }
  return events;
}

void ProbedTransport::Wait(Nanos timeout) {
  inner_->Wait(moving_ > 0 ? std::min(timeout, kTickWait) : timeout);
}

void ProbedTransport::OnMessage(Endpoint* from, ByteView header,
                                ByteView payload) {
  if (probe_->OnMessage(from, header, payload)) return;
  if (TakeTurn(from, header)) return;
  auto found = peers_.find(from);
  if (found != peers_.end() && found->second.phase == Phase::kNew &&
      found->second.connected_by_us && options_.probe) {
    SetPhase(found->second, Phase::kWaking);
  }
  handler_->OnMessage(from, header, payload);
}

void ProbedTransport::OnDisconnect(Endpoint* from, const absl::Status& why) {
  probe_->OnDisconnect(from);
  Forget(from);
  handler_->OnDisconnect(from, why);
}

bool ProbedTransport::TakeTurn(Endpoint* from, ByteView header) {
  TurnFrame frame;
  if (header.size() != sizeof(frame)) return false;
  std::memcpy(&frame, header.data(), sizeof(frame));
  if (frame.magic != kMagic) return false;
  Peer& peer = peers_[from];
  if (frame.turn == Turn::kOver) {
    if (peer.phase == Phase::kTheirTurn) SetPhase(peer, Phase::kSettled);
  } else if (options_.probe && peer.phase == Phase::kNew) {
    SetPhase(peer, Phase::kWaking);
  } else {
    SendTurn(from, Turn::kOver);
  }
  return true;
}

void ProbedTransport::SetPhase(Peer& peer, Phase phase) {
  const auto moves = [](Phase phase) {
    return phase != Phase::kNew && phase != Phase::kSettled;
  };
  moving_ += moves(phase) - moves(peer.phase);
  peer.phase = phase;
  peer.since = options_.clock->Now();
  const bool awaited = moves(phase) && peer.connected_by_us;
  if (awaited == peer.awaited) return;
  peer.awaited = awaited;
  absl::MutexLock lock(&mutex_);
  unsettled_ += awaited ? 1 : -1;
  if (unsettled_ == 0) settled_.SignalAll();
}

void ProbedTransport::Advance() {
  const Nanos now = options_.clock->Now();
  std::vector<Endpoint*> awake;
  for (auto& [endpoint, peer] : peers_) {
    const Nanos past = now - peer.since;
    if (peer.phase == Phase::kWaking &&
        (endpoint->HasMailbox() || endpoint->TransportName() != "shm" ||
         past > kMailboxWait)) {
      awake.push_back(endpoint);
    }
    if (peer.phase == Phase::kTheirTurn && past > kProbeShare) {
      SetPhase(peer, Phase::kSettled);
    }
  }
  for (Endpoint* endpoint : awake) Measure(endpoint);
}

void ProbedTransport::Measure(Endpoint* endpoint) {
  SetPhase(peers_[endpoint], Phase::kMeasuring);
  probe_->Start(
      endpoint,
      [this, endpoint](const TransportTable& table) {
        OnMeasured(endpoint, table);
      },
      kProbeShare);
}

void ProbedTransport::OnMeasured(Endpoint* endpoint,
                                 const TransportTable& table) {
  auto found = peers_.find(endpoint);
  if (found == peers_.end()) return;
  Peer& peer = found->second;
  if (!absl::IsUnavailable(table.status)) Export(peer, table);
  LogInfo("transport probed",
          {{"peer", table.peer},
           {"slot", peer.slot},
           {"transport", table.transport},
           {"chosen", FormatChoices(table)},
           {"gb_per_s", FormatTable(table)},
           {"why_not", FormatFailures(table)},
           {"took_ms", absl::StrFormat("%.1f", table.took * 1e-6)},
           {"status", table.status.ToString()}});
  if (absl::IsUnavailable(table.status)) {
    return SetPhase(peer, Phase::kSettled);  // OnDisconnect is on its way
  }
  SetPhase(peer,
           peer.connected_by_us ? Phase::kTheirTurn : Phase::kSettled);
  SendTurn(endpoint, peer.connected_by_us ? Turn::kYours : Turn::kOver);
}

void ProbedTransport::Forget(Endpoint* endpoint) {
  auto found = peers_.find(endpoint);
  if (found == peers_.end()) return;
  SetPhase(found->second, Phase::kSettled);
  Withdraw(found->second);
  peers_.erase(found);
}

int ProbedTransport::TakeSlot() {
  const auto free = std::find(slots_.begin(), slots_.end(), false);
  if (free == slots_.end()) return -1;
  *free = true;
  return static_cast<int>(free - slots_.begin());
}

void ProbedTransport::Export(Peer& peer, const TransportTable& table) {
  if (options_.metrics == nullptr) return;
  if (peer.slot < 0) peer.slot = TakeSlot();
  if (peer.slot < 0) return;
  std::vector<Gauge*>& gauges = gauges_[peer.slot];
  const std::string slot = absl::StrCat(peer.slot);
  for (const TransportChoice& choice : table.choices) {
    gauges.push_back(options_.metrics->AddGauge(
        kSelected,
        "1 for what carries messages of some size to a connected peer",
        {{"peer", slot},
         {"transport", table.transport},
         {"op", TransportOperationName(choice.message)}}));
    gauges.back()->Set(1);
  }
  for (const TransportEntry& entry : table.entries) {
    if (!entry.status.ok()) continue;
    gauges.push_back(options_.metrics->AddGauge(
        kRate, "What a probe measured when the peer connected",
        {{"peer", slot},
         {"op", TransportOperationName(entry.operation)},
         {"size", TransportSizeName(entry.size)}}));
    gauges.back()->Set(entry.bytes_per_second);
  }
}

void ProbedTransport::Withdraw(const Peer& peer) {
  if (peer.slot < 0) return;
  for (Gauge* gauge : gauges_[peer.slot]) gauge->Set(0);
  gauges_[peer.slot].clear();
  slots_[peer.slot] = false;
}

}  // namespace forecache
