// The part of DataPlane that takes probes, and has KV heads scanned for them
// and for corrections.
#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "kvstore/data_plane.h"

namespace forecache {
namespace {

// Heads corrected before the bulk gets a turn: about a millisecond or two.
constexpr int kHeadsPerRound = 64;

}  // namespace

void DataPlane::OnProbe(Endpoint* from, const wire::Message& message) {
  auto session = Admit(from, message);
  if (!session.ok()) return;
  auto body = wire::BodyOf<wire::ProbeBody>(message);
  if (!body.ok() || message.payload.size() % sizeof(float) != 0) {
    return Refuse(from, message.header,
                  body.ok() ? absl::InvalidArgumentError("q is cut short")
                            : body.status(),
                  metrics_.refused_request);
  }
  if (probes_.full() ||
      queued_bytes_ + message.payload.size() > kQueuedRequestBytesMax) {
    return Refuse(from, message.header,
                  absl::ResourceExhaustedError("the queue of probes is full"),
                  metrics_.refused_busy);
  }
  QueuedProbe& probe = probes_.Push();
  probe.q.resize(message.payload.size() / sizeof(float));
  if (!probe.q.empty()) {
    std::memcpy(probe.q.data(), message.payload.data(),
                message.payload.size());
  }
  static_cast<QueuedScan&>(probe) = {.from = from,
                                     .header = message.header,
                                     .session = *std::move(session)};
  probe.request = {
      static_cast<int>(std::min<uint32_t>(body->layer, kLayersMax)),
      static_cast<int>(
          std::min<uint32_t>(body->blocks, kContextBlocksMax + 1)),
      body->scale, probe.q};
  probe.scanned = 0;
  queued_bytes_ += message.payload.size();
  absl::Status status = ValidateProbe(probe.session.geometry, probe.request);
  if (!status.ok()) {
    probe.from = nullptr;
    return Refuse(from, message.header, status, metrics_.refused_request);
  }
  probe.reply_bytes =
      ProbeReplyBytes(probe.session.geometry, probe.request.blocks);
  probe.work = ScanWork(probe.session.geometry, probe.request);
}

int DataPlane::RunUrgent() {
  int events = 0;
  // What was sent moves, and what is more urgent than bulk is heard, between
  // any two heads.
  for (int i = 0; i < kHeadsPerRound; ++i) {
    const int done = RunCorrections();
    if (done == 0) break;
    events += done + transport_->Progress();
  }
  return events;
}

int DataPlane::RunCorrections() {
  int events = SubmitScans(corrections_, &correction_replies_, /*urgent=*/true);
  events += TakeScanned();
  events += PushScanned();
  for (size_t i = 0; i < corrections_.size(); ++i) {
    QueuedCorrection& correction = corrections_.At(i);
    if (!IsScanned(correction)) continue;
    if (correction.from != nullptr) {
      const absl::Status sent = SendCorrectReply(correction);
      if (absl::IsResourceExhausted(sent)) continue;  // later
      if (sent.ok()) {
        correction.reply_buffer = -1;  // the send's now
        metrics_.corrections->Add();
        metrics_.correct_seconds->Observe(
            static_cast<double>(store_->clock()->Now() - correction.arrived) /
            kSecond);
      }
    }
    EndCorrection(correction);
    ++events;
  }
  PopEnded(corrections_);
  return events;
}

int DataPlane::RunProbes() {
  int events = SubmitScans(probes_, &probe_buffers_, /*urgent=*/false);
  events += TakeScanned();
  for (size_t i = 0; i < probes_.size(); ++i) {
    QueuedProbe& probe = probes_.At(i);
    if (!IsScanned(probe)) continue;
    if (probe.from != nullptr) {
      const absl::Status sent = SendProbeReply(probe);
      if (absl::IsResourceExhausted(sent)) continue;
      if (sent.ok()) {
        probe.reply_buffer = -1;  // the send's now
        metrics_.probes->Add();
        metrics_.probe_seconds->Observe(static_cast<double>(probe.scanned) /
                                        kSecond);
      }
    }
    EndProbe(probe);
    ++events;
  }
  PopEnded(probes_);
  return events;
}

bool DataPlane::IsScanned(const QueuedScan& scan) {
  if (scan.ended || scan.under_way > 0) return false;
  return scan.from == nullptr || scan.head == scan.session.geometry.kv_heads;
}

template <typename Scan>
void DataPlane::PopEnded(BoundedQueue<Scan>& queue) {
  while (!queue.empty() && queue.Front().ended) queue.Pop();
}

template <typename Scan>
Scan* DataPlane::NextScan(BoundedQueue<Scan>& queue,
                          const SendBuffers& replies) {
  Scan* next = nullptr;
  for (size_t i = 0; i < queue.size(); ++i) {
    Scan& scan = queue.At(i);
    if (scan.ended || scan.from == nullptr ||
        scan.head == scan.session.geometry.kv_heads ||
        (scan.reply_buffer < 0 && !replies.Available())) {
      continue;
    }
    // The first of those whose turn it is.
    if (next == nullptr || turns_.Used(scan.session.tenant->id) <
                               turns_.Used(next->session.tenant->id)) {
      next = &scan;
    }
  }
  return next;
}

template <typename Scan>
int DataPlane::SubmitScans(BoundedQueue<Scan>& queue, SendBuffers* replies,
                           bool urgent) {
  int events = 0;
  while (Scan* scan = NextScan(queue, *replies)) {
    ScanJob* job = scans_->TakeFree(urgent);
    if (job == nullptr) break;
    if (scan->reply_buffer < 0) scan->reply_buffer = replies->Take();
    job->request = scan;
    job->session = &scan->session;
    job->head = scan->head++;
    job->reply = replies->At(scan->reply_buffer).first(scan->reply_bytes);
    job->probe = nullptr;
    job->correction = nullptr;
    scan->SetRequest(job);
    job->picks.clear();
    job->pushed = 0;
    ++scan->under_way;
    turns_.Charge(scan->session.tenant->id, scan->work,
                  scan->session.tenant->probe_share);
    scans_->Submit(job);
    ++events;
    if (scans_->threads() == 0) break;
  }
  return events;
}

int DataPlane::TakeScanned() {
  int events = 0;
  while (ScanJob* job = scans_->TakeDone()) {
    ++events;
    metrics_.probe_key_bytes->Add(job->covered);
    if (job->correction != nullptr) {
      pushing_.push_back(job);
      continue;
    }
    auto& probe = *static_cast<QueuedProbe*>(job->request);
    probe.scanned += job->took;
    --probe.under_way;
    scans_->Return(job);
  }
  return events;
}

int DataPlane::PushScanned() {
  int events = 0;
  for (size_t i = 0; i < pushing_.size();) {
    ScanJob* job = pushing_[i];
    auto& correction = *static_cast<QueuedCorrection*>(job->request);
    const absl::Status sent = PushPicks(correction, job);
    if (absl::IsResourceExhausted(sent)) {
      ++i;
      continue;
    }
    if (!sent.ok()) correction.from = nullptr;  // the peer is gone
    if (job->packed_buffer >= 0) correction_buffers_.Return(job->packed_buffer);
    job->packed_buffer = -1;
    --correction.under_way;
    scans_->Return(job);
    pushing_.erase(pushing_.begin() + i);  // there are a few
    ++events;
  }
  return events;
}

absl::Status DataPlane::PushPicks(QueuedCorrection& correction, ScanJob* job) {
  if (job->gather >= 0) {
    if (!gathers_->Ended(job->gather)) {
      return absl::ResourceExhaustedError("blocks are still read");
    }
    job->packed = gathers_->Take(std::exchange(job->gather, -1));
  }
  while (correction.from != nullptr && job->pushed < job->picks.size()) {
    const auto rest = std::span(job->picks).subspan(job->pushed);
    if (job->packed_buffer < 0) {
      if (!TakesPush(correction.from, correction.session.geometry, rest.size(),
                     /*urgent=*/true)) {
        return absl::ResourceExhaustedError("the peer takes no more now");
      }
      const bool on_device = NeedsDevice(correction.session, rest);
      if (!on_device &&
          PushInPlace(correction.from, correction.header, correction.session,
                      rest, /*may_end=*/false, &job->packed)) {
        job->pushed += job->packed.entries;
        continue;
      }
      if (!correction_buffers_.Available() ||
          (on_device && !gathers_->Available(/*urgent=*/true))) {
        return absl::ResourceExhaustedError("no buffer");
      }
      job->packed_buffer = correction_buffers_.Take();
      if (on_device) {
        job->gather = gathers_->Start(
            correction.session, rest,
            correction_buffers_.At(job->packed_buffer), /*urgent=*/true);
        return absl::ResourceExhaustedError("blocks are still read");
      }
      job->packed = store_->Gather(correction.session, rest, &gatherer_,
                                   correction_buffers_.At(job->packed_buffer));
    }
    const int buffer = job->packed_buffer;
    absl::Status sent =
        SendPush(correction.from, correction.header, job->packed,
                 /*is_last=*/false, correction_buffers_.At(buffer),
                 [this, buffer](const absl::Status&) {
                   correction_buffers_.Return(buffer);
                 });
    if (!sent.ok()) return sent;
    job->packed_buffer = -1;  // the send's now
    job->pushed += job->packed.entries;
  }
  return absl::OkStatus();
}

}  // namespace forecache
