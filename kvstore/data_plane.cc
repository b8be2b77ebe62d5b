#include "kvstore/data_plane.h"

#include <pthread.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/log.h"

namespace forecache {
namespace {

using wire::MessageType;

constexpr int kErrorBuffers = 64;
constexpr size_t kErrorTextBytesMax = 512;
// The longest sleep: nothing depends on waking up earlier.
constexpr Nanos kIdleWait = kSecond;

}  // namespace

DataPlane::DataPlane(StoreCore* store, std::unique_ptr<Transport> transport,
                     const DataPlaneOptions& options)
    : store_(store),
      options_(options),
      metrics_(store->metrics()),
      push_buffers_(options.push_buffers, kPushBytesMax),
      probe_buffers_(kProbeReplyBuffers, kMessageBytesMax),
      correction_buffers_(kCorrectionBuffers, kPushBytesMax),
      correction_replies_(kProbeReplyBuffers, kMessageBytesMax),
      error_buffers_(kErrorBuffers, kErrorTextBytesMax),
      fetches_(options.queued_fetches, options.push_buffers),
      push_lines_(options.push_buffers),
      probes_(options.queued_probes),
      corrections_(options.queued_corrections),
      hellos_(store->clock()),
      transport_(std::move(transport)),
      scans_(std::make_unique<ScanPool>(options.scan_threads,
                                        store->probe_source(), store->clock(),
                                        [this] { transport_->Wake(); })),
      gathers_(std::make_unique<DeviceGathers>(
          store, options.ssd_threads, [this] { transport_->Wake(); })),
      put_thread_(std::make_unique<SideThreads>(
          "put", options.ssd_threads > 0 ? 1 : 0,
          [this] { transport_->Wake(); })),
      address_(transport_->Address()) {
  pushing_.reserve(scans_->jobs());
  transport_->SetHandler(this);
}

DataPlane::~DataPlane() { Stop(); }

void DataPlane::Start() {
  FC_CHECK(!thread_.joinable());
  thread_ = std::thread([this] { Loop(); });
}

void DataPlane::Stop() {
  stop_ = true;
  if (!thread_.joinable()) return;
  transport_->Wake();
  thread_.join();
}

void DataPlane::Loop() {
  pthread_setname_np(pthread_self(), "dataplane");
  // The real clock whatever the store's: this is about sparing a core.
  Clock* clock = Clock::Real();
  Nanos last_event = clock->Now();
  while (!stop_) {
    if (RunOnce() > 0) {
      last_event = clock->Now();
    } else if (clock->Now() - last_event > kProgressSpin) {
      transport_->Wait(kIdleWait);
    }
  }
}

int DataPlane::RunOnce() {
  // One piece of bulk between two looks at the transport, so that what is
  // urgent waits for no more than that.
  int events = transport_->Progress();
  events += RunUrgent() + RunPuts();
  return events + RunBulk();
}

int DataPlane::RunBulk() {
  if (scans_->threads() > 0) return RunProbes() + RunPush();
  // On this thread a scan is a piece of bulk, as a push is.  They take turns,
  // or who probes without end would starve all fetches.
  if (is_push_turn_ && RunPush()) {
    is_push_turn_ = false;
    return 1;
  }
  const int probed = RunProbes();
  is_push_turn_ = probed > 0;
  return probed > 0 ? probed : RunPush();
}

std::string DataPlane::TransportName() const {
  absl::MutexLock lock(&mu_);
  return transport_name_;
}

void DataPlane::OnMessage(Endpoint* from, ByteView header, ByteView payload) {
  auto message = wire::Parse(header, payload);
  if (message.ok()) {
    Dispatch(from, *message);
  } else if (message.status().code() == absl::StatusCode::kFailedPrecondition) {
    // The rest of another version's header means nothing here: request 0.
    Refuse(from, wire::WireHeader(), message.status(),
           metrics_.refused_version);
  } else {
    metrics_.refused_malformed->Add();
    LogWarning("message refused", {{"peer", from->PeerName()},
                                   {"why", message.status().message()}});
    CountFault(from);
  }
}

void DataPlane::OnDisconnect(Endpoint* from, const absl::Status& why) {
  LogInfo("peer gone",
          {{"peer", from->PeerName()}, {"why", why.ToString()}});
  Forget(from);
}

void DataPlane::Forget(Endpoint* from) {
  faults_.erase(from);
  peers_.erase(from);
  fetches_.ForEach(from, [](QueuedFetch& fetch) { fetch.from = nullptr; });
  fetches_.Forget(from);
  for (const auto& put : puts_) {
    if (put->from == from) put->from = nullptr;
  }
  for (size_t i = 0; i < probes_.size(); ++i) {
    if (probes_.At(i).from == from) probes_.At(i).from = nullptr;
  }
  for (size_t i = 0; i < corrections_.size(); ++i) {
    if (corrections_.At(i).from == from) corrections_.At(i).from = nullptr;
  }
}

void DataPlane::Dispatch(Endpoint* from, const wire::Message& message) {
  if (message.type() != MessageType::kHello &&
      message.type() != MessageType::kError && !peers_.contains(from)) {
    return Refuse(from, message.header,
                  absl::UnauthenticatedError("hello: there was none"),
                  metrics_.refused_hello);
  }
  switch (message.type()) {
    case MessageType::kHello:
      return OnHello(from, message);
    case MessageType::kPing:
      return Answer(from, message.header, MessageType::kPong);
    case MessageType::kCancel:
      return OnCancel(from, message.header.request_id);
    case MessageType::kCredit:
      return OnCredit(from, message);
    case MessageType::kPutBlocks:
      return OnPutBlocks(from, message);
    case MessageType::kFetch:
      return OnFetch(from, message);
    case MessageType::kProbe:
      return OnProbe(from, message);
    case MessageType::kCorrect:
      return OnCorrect(from, message);
    case MessageType::kError:
      // Never answered: two sides that do not understand each other must not
      // go on telling each other so.
      metrics_.refused_malformed->Add();
      return CountFault(from);
    default:
      return Refuse(from, message.header,
                    absl::InvalidArgumentError(absl::StrCat(
                        "type ", message.header.type, " is not a request")),
                    metrics_.refused_malformed);
  }
}

void DataPlane::OnHello(Endpoint* from, const wire::Message& message) {
  if (message.header.epoch != options_.epoch) {
    return Refuse(from, message.header,
                  absl::FailedPreconditionError(
                      absl::StrCat("epoch is ", message.header.epoch,
                                   ", this store's is ", options_.epoch)),
                  metrics_.refused_epoch);
  }
  wire::HelloProof proof;  // proves nothing as it is
  if (message.payload.size() == sizeof(proof)) {
    std::memcpy(&proof, message.payload.data(), sizeof(proof));
  }
  auto tenant = hellos_.Redeem(message.header, proof);
  if (!tenant.ok()) {
    return Refuse(from, message.header, tenant.status(),
                  metrics_.refused_hello);
  }
  const auto body = wire::BodyOf<wire::HelloBody>(message);
  if (!body.ok() || body->push_credit < kPushCreditMin ||
      body->push_credit > kPushCreditMax) {
    return Refuse(from, message.header,
                  body.ok() ? absl::InvalidArgumentError(absl::StrCat(
                                  "push_credit is ", body->push_credit,
                                  ", must be ", kPushCreditMin, "..",
                                  kPushCreditMax))
                            : body.status(),
                  metrics_.refused_request);
  }
  peers_.insert_or_assign(from, Peer{*tenant, PushCredit(body->push_credit)});
  {
    absl::MutexLock lock(&mu_);
    transport_name_ = from->TransportName();
  }
  LogInfo("peer connected", {{"peer", from->PeerName()},
                             {"tenant", store_->tenants().NameOf(*tenant)},
                             {"transport", from->TransportName()}});
  Answer(from, message.header, MessageType::kHelloAck);
}

absl::StatusOr<SessionSnapshot> DataPlane::Admit(Endpoint* from,
                                                 const wire::Message& message) {
  const wire::WireHeader& header = message.header;
  if (header.epoch != options_.epoch) {
    absl::Status why = absl::FailedPreconditionError(absl::StrCat(
        "epoch is ", header.epoch, ", this store's is ", options_.epoch));
    Refuse(from, header, why, metrics_.refused_epoch);
    return why;
  }
  absl::Status intact = wire::CheckPayload(message);
  if (!intact.ok()) {
    Refuse(from, header, intact, metrics_.refused_damaged);
    return intact;
  }
  // A session's key is worth nothing to another tenant's worker.
  auto session = store_->Authorize(header.session_id, header.session_key,
                                   peers_.at(from).tenant);
  if (!session.ok()) {
    Refuse(from, header, session.status(), metrics_.refused_session);
  }
  return session;
}

void DataPlane::OnFetch(Endpoint* from, const wire::Message& message) {
  auto session = Admit(from, message);
  if (!session.ok()) return;
  auto body = wire::BodyOf<wire::FetchBody>(message);
  absl::Status status = body.status();
  if (body.ok() && message.payload.size() !=
                       size_t{body->count} * sizeof(wire::FetchEntry)) {
    status = absl::InvalidArgumentError(
        absl::StrCat("payload has ", message.payload.size(),
                     " bytes, count is ", body->count));
  }
  if (!status.ok()) {
    return Refuse(from, message.header, status, metrics_.refused_request);
  }
  if (fetches_.full() ||
      queued_bytes_ + message.payload.size() > kQueuedRequestBytesMax) {
    return Refuse(from, message.header,
                  absl::ResourceExhaustedError("the queue of fetches is full"),
                  metrics_.refused_busy);
  }
  QueuedFetch& fetch = fetches_.Push(from, session->tenant->id,
                                     session->tenant->bandwidth_share);
  fetch.entries.resize(body->count);
  if (body->count > 0) {
    std::memcpy(fetch.entries.data(), message.payload.data(),
                message.payload.size());
  }
  fetch.from = from;
  fetch.header = message.header;
  fetch.session = *std::move(session);
  fetch.next = 0;
  fetch.arrived = store_->clock()->Now();
  queued_bytes_ += message.payload.size();
  status = ValidateFetch(fetch.session.geometry, fetch.entries);
  if (!status.ok()) {
    fetch.from = nullptr;  // RunPush lets it go
    Refuse(from, message.header, status, metrics_.refused_request);
  }
}

void DataPlane::OnCancel(Endpoint* from, uint64_t request_id) {
  fetches_.ForEach(from, [&](QueuedFetch& fetch) {
    if (fetch.header.request_id == request_id) fetch.from = nullptr;
  });
  for (size_t i = 0; i < corrections_.size(); ++i) {
    CancelScan(corrections_.At(i), from, request_id);
  }
  for (size_t i = 0; i < probes_.size(); ++i) {
    CancelScan(probes_.At(i), from, request_id);
  }
}

void DataPlane::OnCredit(Endpoint* from, const wire::Message& message) {
  const auto body = wire::BodyOf<wire::CreditBody>(message);
  if (body.ok() && peers_.at(from).credit.Taken(body->taken)) return;
  // Not answered: the peer could not tell by what.
  metrics_.refused_request->Add();
  CountFault(from);
}

void DataPlane::Answer(Endpoint* to, const wire::WireHeader& request,
                       MessageType type) {
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(type);
  header.epoch = options_.epoch;
  header.request_id = request.request_id;
  header.session_id = request.session_id;
  wire::DescribePayload({}, 0, &header);
  absl::Status sent = to->Send(wire::Pack(header, {}).view(), {},
                               [](const absl::Status&) {});
  if (!sent.ok()) metrics_.refused_busy->Add();
}

void DataPlane::Refuse(Endpoint* to, const wire::WireHeader& request,
                       const absl::Status& why, Counter* counter) {
  counter->Add();
  LogWarning("request refused",
             {{"peer", to->PeerName()},
              {"type", request.type},
              {"session", request.session_id},
              {"why", why.ToString()}});
  AnswerError(to, request, why);
  // A full queue is nobody's fault.
  if (counter != metrics_.refused_busy) CountFault(to);
}

void DataPlane::CountFault(Endpoint* from) {
  const Nanos now = store_->clock()->Now();
  Faults& faults = faults_[from];
  if (faults.count == 0 || now - faults.since > kPeerFaultWindow) {
    faults = {0, now};
  }
  if (++faults.count <= kPeerFaultsMax) return;
  metrics_.peers_cut_off->Add();
  LogWarning("peer cut off", {{"peer", from->PeerName()},
                              {"faulty_messages", faults.count}});
  Forget(from);
  transport_->Close(from);
}

void DataPlane::AnswerError(Endpoint* to, const wire::WireHeader& request,
                            const absl::Status& why) {
  // Without a buffer for the text the code has to do.
  ByteView text;
  int buffer = -1;
  if (error_buffers_.Available()) {
    buffer = error_buffers_.Take();
    size_t bytes = std::min(why.message().size(), kErrorTextBytesMax);
    std::memcpy(error_buffers_.At(buffer).data(), why.message().data(), bytes);
    text = error_buffers_.At(buffer).first(bytes);
  }
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(MessageType::kError);
  header.epoch = options_.epoch;
  header.request_id = request.request_id;
  header.session_id = request.session_id;
  wire::DescribePayload(text, text.size(), &header);
  wire::ErrorBody body{static_cast<uint32_t>(why.code()), 0};
  absl::Status sent = to->Send(
      wire::Pack(header, AsBytes(body)).view(), text,
      [this, buffer](const absl::Status&) {
        if (buffer >= 0) error_buffers_.Return(buffer);
      });
  if (!sent.ok() && buffer >= 0) error_buffers_.Return(buffer);
}

}  // namespace forecache
