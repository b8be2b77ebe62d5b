#include "kvstore/client/group_control.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/status.h"

namespace forecache {
namespace {

// For a data plane that fails what a lost store had under way.
void LetNothingComeBack(GroupDataPlane* data_plane) {
  data_plane->restore = [](uint64_t, const SessionHandle&,
                           std::span<const uint32_t>) {
    return absl::FailedPreconditionError("nothing was kept");
  };
  data_plane->go_on = [] {};
  data_plane->fail_session = [](uint64_t, const absl::Status&) {};
  data_plane->durable = [](uint64_t, int) {};
  data_plane->forget = [](uint64_t) {};
}

}  // namespace

GroupControl::GroupControl(const std::vector<std::string>& addresses,
                           GroupSessions* sessions,
                           const StoreCredentials& credentials)
    : sessions_(sessions),
      lost_(static_cast<int>(addresses.size()), getpid()),
      addresses_(addresses.size()) {
  FC_CHECK(sessions->members() == static_cast<int>(addresses.size()));
  for (const std::string& address : addresses) {
    clients_.push_back(
        std::make_unique<ControlClient>(address, credentials));
  }
}

GroupControl::~GroupControl() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    news_.SignalAll();
  }
  if (!thread_.joinable()) return;
  thread_.join();
  data_plane_.set_on_lost(nullptr);
}

absl::Status GroupControl::Start(const std::string& worker_name,
                                 GroupDataPlane data_plane) {
  worker_name_ = worker_name;
  data_plane_ = std::move(data_plane);
  if (!data_plane_.restore) LetNothingComeBack(&data_plane_);
  for (int m = 0; m < members(); ++m) {
    FC_RETURN_IF_ERROR(Annotate(
        clients_[m]->WaitReady(kConnectTimeout / kMillisecond),
        absl::StrCat("no store answers at ", clients_[m]->address(),
                     " (start one with ./forecache store --insecure)")));
    FC_RETURN_IF_ERROR(Rejoin(m));
  }
  data_plane_.set_on_lost([this](int member) { Lost(member); });
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "stores");
    Watch();
  });
  return absl::OkStatus();
}

absl::StatusOr<OpenedSession> GroupControl::OpenSession(
    const ModelFingerprint& model, std::span<const int32_t> prompt_tokens,
    const std::string& request_id, const SharedPrefix& shared) {
  if (members() == 1) {
    return OpenAlone(model, prompt_tokens, request_id, shared);
  }
  // All at once: the slowest decides, not the sum.
  std::vector<std::optional<OpenedSession>> opened(members());
  std::vector<absl::Status> status(members());
  std::vector<std::thread> calls;
  for (int m = 0; m < members(); ++m) {
    if (!sessions_->IsAlive(m)) {
      status[m] = absl::UnavailableError(
          absl::StrCat("store ", clients_[m]->address(), " is lost"));
      continue;
    }
    calls.emplace_back([&, m] {
      auto answer = clients_[m]->OpenScattered(
          model, prompt_tokens, request_id, SessionHandle(), shared);
      status[m] = answer.status();
      if (answer.ok()) opened[m] = *std::move(answer);
    });
  }
  for (std::thread& call : calls) call.join();
  bool any = false;
  absl::Status refused;
  for (int m = 0; m < members(); ++m) {
    any = any || opened[m].has_value();
    if (absl::IsInvalidArgument(status[m]) ||
        absl::IsPermissionDenied(status[m])) {
      refused.Update(status[m]);
    }
    if (absl::IsUnavailable(status[m])) Lost(m);
  }
  if (!refused.ok()) {
    // One store may have read its tenants' file before the others.
    for (int m = 0; m < members(); ++m) {
      if (!opened[m]) continue;
      clients_[m]->CloseSession(opened[m]->handle).IgnoreError();
    }
    return refused;
  }
  if (!any) return status[0];
  return sessions_->Open(model, prompt_tokens, request_id, opened, shared);
}

absl::Status GroupControl::CloseSession(const SessionHandle& session) {
  if (members() == 1) data_plane_.forget(session.id);
  const std::vector<SessionHandle> handles = sessions_->Close(session.id);
  absl::Status first;
  for (size_t m = 0; m < handles.size(); ++m) {
    if (handles[m].id == 0 || !sessions_->IsAlive(static_cast<int>(m))) {
      continue;  // its idle timeout takes care of it
    }
    first.Update(clients_[m]->CloseSession(handles[m]));
  }
  return first;
}

void GroupControl::Extend(const SessionHandle& session,
                          std::span<const int32_t> context_tokens) {
  sessions_->Extend(session.id, context_tokens);
}

absl::Status GroupControl::SealSegment(
    const SessionHandle& session, int segment,
    std::span<const int32_t> context_tokens) {
  const size_t end = (size_t(segment) + 1) * kSegmentTokens;
  FC_CHECK(context_tokens.size() >= end) << context_tokens.size();
  if (members() == 1) {
    return SealAlone(session.id, segment, context_tokens.first(end));
  }
  const SegmentPlace place = sessions_->Find(session.id, segment);
  if (place.held) return absl::OkStatus();
  absl::Status sealed = absl::UnavailableError("its store is lost");
  if (place.member >= 0 && sessions_->IsAlive(place.member)) {
    const int told = sessions_->Untold(session.id, place.member);
    const size_t first = size_t(std::min(told, segment)) * kSegmentTokens;
    sealed = clients_[place.member]->SealSegment(
        place.handle, segment, context_tokens.subspan(first, end - first));
  }
  if (sealed.ok()) {
    sessions_->SetTold(session.id, place.member, segment + 1);
    return sealed;
  }
  LogWarning("segment stays private", {{"segment", segment},
                                       {"store", place.member},
                                       {"why", sealed.ToString()}});
  absl::MutexLock lock(&mutex_);
  ++counters_.seals_skipped;
  return absl::OkStatus();
}

void GroupControl::Lost(int member) {
  absl::MutexLock lock(&mutex_);
  if (!lost_.Lost(member, Clock::Real()->Now())) return;
  changed_ = true;
  news_.SignalAll();
}

StoreAddress GroupControl::address(int member) const {
  absl::MutexLock lock(&mutex_);
  return addresses_[member];
}

GroupControlCounters GroupControl::counters() const {
  absl::MutexLock lock(&mutex_);
  return counters_;
}

void GroupControl::Watch() {
  for (;;) {
    int member;
    {
      absl::MutexLock lock(&mutex_);
      for (;;) {
        if (stopping_) return;
        const Nanos now = Clock::Real()->Now();
        Nanos next = 0;
        member = lost_.TakeDue(now, &next);
        if (member >= 0) break;
        news_.AwaitFor(&mutex_, next - now,
                       [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
                         return stopping_ || changed_;
                       });
        changed_ = false;
      }
    }
    const absl::Status back = Rejoin(member);
    absl::MutexLock lock(&mutex_);
    lost_.Tried(member, back.ok(), Clock::Real()->Now());
    if (back.ok()) ++counters_.reconnects;
  }
}

absl::Status GroupControl::Rejoin(int member) {
  auto address = clients_[member]->Attach(worker_name_);
  absl::Status status = address.status();
  if (status.ok()) {
    // Also where a connection is left: it owed answers, or a session.  What is
    // under way there fails, and finds its way or its end.
    status = data_plane_.connect(member, *address);
  }
  if (!status.ok()) {
    data_plane_.drop(member, absl::UnavailableError(absl::StrCat(
                                 "store ", clients_[member]->address(),
                                 " is lost: ", status.message())));
    return status;
  }
  if (members() == 1) {
    FC_RETURN_IF_ERROR(ResumeAlone());
  } else {
    ResumeSessions(member);
  }
  sessions_->SetAlive(member, true);
  LogInfo("store connected", {{"address", clients_[member]->address()},
                    {"id", address->store_id},
                    {"epoch", address->epoch}});
  absl::MutexLock lock(&mutex_);
  addresses_[member] = *std::move(address);
  return absl::OkStatus();
}

void GroupControl::ResumeSessions(int member) {
  for (const uint64_t id : sessions_->Ids()) {
    const auto arguments = sessions_->ReopenAt(id, member);
    if (!arguments) continue;
    const auto opened = clients_[member]->OpenScattered(
        arguments->model, arguments->tokens, arguments->request_id,
        arguments->before, arguments->shared);
    if (!opened.ok()) {
      LogWarning("session not resumed", {{"session", id},
                                         {"store", member},
                                         {"why", opened.status().ToString()}});
      continue;
    }
    if (!sessions_->Rejoin(id, member, *opened)) {
      clients_[member]->CloseSession(opened->handle).IgnoreError();
      continue;
    }
    absl::MutexLock lock(&mutex_);
    ++(opened->resumed ? counters_.sessions_resumed
                       : counters_.sessions_reopened);
  }
}

}  // namespace forecache
