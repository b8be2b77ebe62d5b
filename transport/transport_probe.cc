#include "transport/transport_probe.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/log.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr uint32_t kMagic = 0x31504346;  // "FCP1"
enum class Kind : uint32_t { kOpen = 1, kOpened = 2, kData = 3, kAck = 4 };

struct ProbeFrame {
  uint32_t magic = kMagic;
  Kind kind;
  uint32_t step;      // the measurer's number of this burst
  uint32_t expected;  // messages of the burst
};
static_assert(sizeof(ProbeFrame) == 16);

// In the order of preference: what comes later must be faster by the margin,
// or noise would choose.
constexpr TransportOperation kCandidates[] = {
    TransportOperation::kMailbox, TransportOperation::kEager,
    TransportOperation::kRendezvous, TransportOperation::kPut,
    TransportOperation::kGet};
constexpr double kMargin = 1.5;
// Of the whole table, as time allows; the best of each entry counts, since a
// burst that the scheduler cut in two says nothing.
constexpr int kRounds = 4;

// Messages of a burst.  A get over TCP is so slow that one must do.
constexpr std::array<int, kTransportSizes.size()> kBurst = {32, 16, 4};
constexpr std::array<int, kTransportSizes.size()> kGetBurst = {8, 4, 1};
// A choice holds from here on to the next one's.
constexpr std::array<size_t, kTransportSizes.size()> kSizeFrom = {0, 16 << 10,
                                                              256 << 10};

bool IsMessage(TransportOperation operation) {
  return operation != TransportOperation::kPut &&
         operation != TransportOperation::kGet;
}

int BurstOf(const TransportEntry& entry) {
  for (size_t i = 0; i < kTransportSizes.size(); ++i) {
    if (kTransportSizes[i] != entry.size) continue;
    return entry.operation == TransportOperation::kGet ? kGetBurst[i]
                                                       : kBurst[i];
  }
  return 1;
}

// A sender killed in a large eager message leaves a hole in UCX's shared queue.
bool MayBeChosen(const TransportTable& result, const TransportEntry& entry) {
  return result.transport != "shm" ||
         entry.operation != TransportOperation::kEager ||
         entry.size <= kTransportSizes[0];
}

// A mailbox that was not open yet is worth waiting for: the transport takes it
// by itself once it is, but only where nothing else is preferred.
bool MailboxIsLate(const TransportTable& result) {
  return result.transport == "shm" &&
         absl::IsUnimplemented(result.entries.front().status);
}

void Choose(TransportTable& result) {
  const bool mailbox_is_late = MailboxIsLate(result);
  for (size_t i = 0; i < kTransportSizes.size(); ++i) {
    TransportChoice& choice = result.choices[i];
    choice.size = kTransportSizes[i];
    for (const TransportEntry& entry : result.entries) {
      if (entry.size != choice.size || !entry.status.ok() ||
          !MayBeChosen(result, entry)) {
        continue;
      }
      const double rate = entry.bytes_per_second;
      if (rate > kMargin * choice.fastest_bytes_per_second) {
        choice.fastest = entry.operation;
        choice.fastest_bytes_per_second = rate;
      }
      if (IsMessage(entry.operation) && !mailbox_is_late &&
          rate > kMargin * choice.message_bytes_per_second) {
        choice.message = entry.operation;
        choice.message_bytes_per_second = rate;
      }
    }
  }
}

}  // namespace

// Threads: the transport's thread.
struct TransportProbe::Run {
  Endpoint* peer;
  Done done;
  TransportTable result;
  std::string key;  // of the peer's scratch memory
  Nanos start = 0;
  Nanos timeout = 0;
  Nanos step_start = 0;
  int round = 0;
  size_t entry = 0;
  bool warm = false;      // the entry has had its first message
  bool stepping = false;  // inside Step: no recursion
  bool advance = false;   // a step ended meanwhile
  bool notified = false;  // of a put: the message that follows it is sent
  bool acknowledged = false;
  uint32_t step = 0;
  int count = 0;  // operations of this step
  int dones = 0;
  absl::Status failure;
};

TransportProbe::TransportProbe(Transport* transport, Clock* clock)
    : transport_(transport), clock_(clock) {}

TransportProbe::~TransportProbe() { Stop(); }

void TransportProbe::Stop() {
  runs_.clear();
  region_.reset();
}

void TransportProbe::Start(Endpoint* peer, Done done, Nanos timeout) {
  FC_CHECK(runs_.count(peer) == 0) << "a probe of this peer is running";
  auto run = std::make_shared<Run>();
  run->peer = peer;
  run->done = std::move(done);
  run->start = clock_->Now();
  run->timeout = timeout;
  run->result.peer = peer->PeerName();
  run->result.transport = peer->TransportName();
  for (TransportOperation operation : kCandidates) {
    for (size_t size : kTransportSizes) {
      run->result.entries.push_back({operation, size});
    }
  }
  source_.resize(kTransportSizes.back());
  runs_[peer] = run;
  const ProbeFrame header = {.kind = Kind::kOpen, .step = 0, .expected = 0};
  const absl::Status sent = peer->Send(AsBytes(header), {}, nullptr);
  if (!sent.ok()) End(run, sent);
}

// --- The peer that is measured ----------------------------------------------

bool TransportProbe::OnMessage(Endpoint* from, ByteView header,
                               ByteView payload) {
  ProbeFrame probe;
  if (header.size() != sizeof(probe)) return false;
  std::memcpy(&probe, header.data(), sizeof(probe));
  if (probe.magic != kMagic) return false;
  switch (probe.kind) {
    case Kind::kOpen:
      AnswerOpen(from);
      break;
    case Kind::kOpened: {
      auto found = runs_.find(from);
      if (found == runs_.end() || found->second->step != 0) break;
      const std::shared_ptr<Run> run = found->second;
      run->key.assign(reinterpret_cast<const char*>(payload.data()),
                      payload.size());
      Step(run);
      break;
    }
    case Kind::kData:
      AnswerData(from, probe.step, probe.expected);
      break;
    case Kind::kAck:
      OnAck(from, probe.step);
      break;
  }
  return true;
}

void TransportProbe::AnswerOpen(Endpoint* from) {
  if (region_ == nullptr) {
    scratch_.resize(kTransportSizes.back());
    auto region = transport_->Register(scratch_);
    if (region.ok()) {
      region_ = *std::move(region);
      key_ = region_->RemoteKey();
    } else {
      LogWarning("no memory for puts of a probe",
                 {{"error", region.status().ToString()}});
    }
  }
  const ProbeFrame header = {.kind = Kind::kOpened, .step = 0, .expected = 0};
  (void)from->Send(AsBytes(header),
                   std::as_bytes(std::span<const char>(key_)), nullptr);
}

void TransportProbe::AnswerData(Endpoint* from, uint32_t step,
                                uint32_t expected) {
  Answer& answer = answers_[from];
  if (answer.step != step) answer = {step, 0};
  if (++answer.received != expected) return;
  const ProbeFrame header = {
      .kind = Kind::kAck, .step = step, .expected = expected};
  (void)from->Send(AsBytes(header), {}, nullptr);
}

// --- The peer that measures -------------------------------------------------

void TransportProbe::Step(const std::shared_ptr<Run>& run) {
  run->stepping = true;
  while (run->entry < run->result.entries.size() || NextRound(run)) {
    TransportEntry& entry = run->result.entries[run->entry];
    if (run->round > 0 && !entry.status.ok()) {
      ++run->entry;
      continue;
    }
    // A later round finds everything warm.
    run->warm = run->warm || run->round > 0;
    run->step = ++last_step_;
    run->count = run->warm ? BurstOf(entry) : 1;
    run->dones = 0;
    run->acknowledged = run->notified = run->advance = false;
    run->failure = absl::OkStatus();
    run->step_start = clock_->Now();
    for (int i = 0; i < run->count && run->failure.ok(); ++i) {
      run->failure = StartOne(run);
    }
    if (run->failure.ok()) {
      if (!run->advance) {
        run->stepping = false;
        return;  // OnDone or OnAck goes on
      }
      Advance(run);
      continue;
    }
    if (absl::IsUnavailable(run->failure)) {
      run->stepping = false;
      return End(run, run->failure);
    }
    entry.status = run->failure;
    ++run->entry;
    run->warm = false;
  }
  run->stepping = false;
  End(run, absl::OkStatus());
}

bool TransportProbe::NextRound(const std::shared_ptr<Run>& run) {
  const Nanos took = clock_->Now() - run->start;
  if (++run->round >= kRounds || took > run->timeout / 2) {
    return false;
  }
  run->entry = 0;
  return true;
}

absl::Status TransportProbe::StartOne(const std::shared_ptr<Run>& run) {
  const TransportEntry& entry = run->result.entries[run->entry];
  const ByteView source = ByteView(source_).subspan(0, entry.size);
  auto done = [this, run, step = run->step](const absl::Status& status) {
    OnDone(run, step, status);
  };
  // All that moves without a copy: a close by force in the middle of it crashes
  // UCX 1.13, and a peer may die during a probe, too.
  if (run->result.transport == "tcp" &&
      entry.operation != TransportOperation::kEager) {
    return absl::UnimplementedError("not safe over TCP");
  }
  if (!IsMessage(entry.operation) && run->key.empty()) {
    return absl::UnimplementedError("the peer registers no memory");
  }
  switch (entry.operation) {
    case TransportOperation::kPut:
      return run->peer->Put(source, run->key, 0, done);
    case TransportOperation::kGet:
      return run->peer->Get(MutableBytes(source_).subspan(0, entry.size),
                            run->key, 0, done);
    default: {
      const auto expected = static_cast<uint32_t>(run->count);
      const ProbeFrame header = {
          .kind = Kind::kData, .step = run->step, .expected = expected};
      return run->peer->SendBy(entry.operation, AsBytes(header), source, done);
    }
  }
}

void TransportProbe::OnDone(const std::shared_ptr<Run>& run, uint32_t step,
                            const absl::Status& status) {
  // The run may have ended, and its peer be gone.
  auto found = runs_.find(run->peer);
  if (found == runs_.end() || found->second != run || run->step != step) return;
  ++run->dones;
  if (!status.ok() && run->failure.ok()) {
    run->failure = status;
    run->result.entries[run->entry].status = status;
  }
  if (run->dones < run->count) return;
  const TransportOperation operation =
      run->result.entries[run->entry].operation;
  if (operation == TransportOperation::kPut && run->failure.ok()) {
    // The bytes are there; that the peer is told is part of the price.
    const ProbeFrame header = {
        .kind = Kind::kData, .step = step, .expected = 1};
    run->notified = true;
    run->failure = run->peer->Send(AsBytes(header), {}, nullptr);
  }
  const bool needs_ack = operation != TransportOperation::kGet;
  if (needs_ack && run->failure.ok() && !run->acknowledged) return;
  run->advance = true;
  if (run->stepping) return;
  Advance(run);
  Step(run);
}

void TransportProbe::OnAck(Endpoint* from, uint32_t step) {
  auto found = runs_.find(from);
  if (found == runs_.end() || found->second->step != step) return;
  const std::shared_ptr<Run> run = found->second;
  run->acknowledged = true;
  if (run->dones < run->count) return;
  run->advance = true;
  if (run->stepping) return;
  Advance(run);
  Step(run);
}

// Notes the step that ended: a first message only warms up.
void TransportProbe::Advance(const std::shared_ptr<Run>& run) {
  TransportEntry& entry = run->result.entries[run->entry];
  if (run->failure.ok() && !run->warm) {
    run->warm = true;
    return;
  }
  if (run->failure.ok()) {
    const Nanos took = std::max<Nanos>(1, clock_->Now() - run->step_start);
    entry.status = absl::OkStatus();
    entry.bytes_per_second =
        std::max(entry.bytes_per_second,
                 1e9 * static_cast<double>(entry.size) * run->count / took);
  } else {
    entry.status = run->failure;
  }
  run->warm = false;
  ++run->entry;
}

void TransportProbe::OnDisconnect(Endpoint* from) {
  answers_.erase(from);
  auto found = runs_.find(from);
  if (found == runs_.end()) return;
  const std::shared_ptr<Run> run = found->second;
  run->peer = nullptr;
  runs_.erase(found);
  End(run, absl::UnavailableError("the peer went away"));
}

void TransportProbe::Tick() {
  if (runs_.empty()) return;
  const Nanos now = clock_->Now();
  std::vector<std::shared_ptr<Run>> late;
  for (const auto& [peer, run] : runs_) {
    if (now - run->start >= run->timeout) late.push_back(run);
  }
  for (const auto& run : late) {
    End(run, run->round > 0
                 ? absl::OkStatus()
                 : absl::DeadlineExceededError("the probe ran out of time"));
  }
}

void TransportProbe::End(const std::shared_ptr<Run>& run,
                         const absl::Status& status) {
  if (run->peer != nullptr) runs_.erase(run->peer);
  run->result.status = status;
  run->result.took = clock_->Now() - run->start;
  Choose(run->result);
  if (run->peer != nullptr && !absl::IsUnavailable(status)) {
    for (size_t i = 0; i < kTransportSizes.size(); ++i) {
      run->peer->Prefer(kSizeFrom[i], run->result.choices[i].message);
    }
  }
  const Done done = std::exchange(run->done, nullptr);
  if (done) done(run->result);
}

}  // namespace forecache
