// The part of GroupControl for a store that is alone: when it dies and returns,
// its sessions are opened again over the same tokens, what of them it lost and
// the worker kept is put and sealed again, and then their requests go on.
#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/log.h"
#include "common/status.h"
#include "kvstore/client/group_control.h"

namespace forecache {
namespace {

constexpr Nanos kLookAgain = 50 * kMillisecond;

// Whether the store may do it once it is back.
bool MayPass(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsNotFound(status);  // of a session: not opened again yet
}

std::span<const int32_t> TokensOf(std::span<const int32_t> context,
                                  int segment) {
  return context.subspan(size_t(segment) * kSegmentTokens, kSegmentTokens);
}

}  // namespace

absl::StatusOr<OpenedSession> GroupControl::OpenAlone(
    const ModelFingerprint& model, std::span<const int32_t> prompt_tokens,
    const std::string& request_id, const SharedPrefix& shared) {
  std::optional<OpenedSession> opened;
  FC_ASSIGN_OR_RETURN(
      opened,
      clients_[0]->OpenSession(model, prompt_tokens, request_id, shared));
  return sessions_->Open(model, prompt_tokens, request_id,
                         std::span(&opened, 1), shared);
}

void GroupControl::AwaitBack() {
  absl::MutexLock lock(&mutex_);
  news_.AwaitFor(&mutex_, kLookAgain,
                 [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
                   return stopping_;
                 });
}

absl::Status GroupControl::SealAlone(uint64_t session, int segment,
                                     std::span<const int32_t> context_tokens) {
  // A store that comes back has to be told of what it holds.
  sessions_->Extend(session, context_tokens);
  const Nanos end = Clock::Real()->Now() + kStoreRecovery;
  absl::Status sealed = absl::UnavailableError("the store is lost");
  for (;;) {
    if (sessions_->IsAlive(0)) {
      sealed = clients_[0]->SealSegment(sessions_->HandleAt(session, 0),
                                        segment,
                                        TokensOf(context_tokens, segment));
      if (sealed.ok()) break;
      if (!MayPass(sealed)) return sealed;
      if (!absl::IsNotFound(sealed)) {
        sessions_->SetAlive(0, false);
        Lost(0);
      }
    }
    if (Clock::Real()->Now() >= end) return sealed;
    AwaitBack();
  }
  GroupSessions::Progress progress = sessions_->SealedOf(session);
  progress.sealed = std::max(progress.sealed, segment + 1);
  // Written behind the seal: those before are durable by now, most likely, and
  // waiting for one that is not bounds what is kept.
  while (progress.durable < segment && address(0).durable) {
    const absl::StatusOr<bool> durable = clients_[0]->SealDurably(
        sessions_->HandleAt(session, 0), progress.durable,
        TokensOf(context_tokens, progress.durable));
    if (!durable.ok() || !*durable) break;
    ++progress.durable;
  }
  sessions_->SetSealed(session, progress);
  if (progress.durable > 0) data_plane_.durable(session, progress.durable);
  return absl::OkStatus();
}

absl::Status GroupControl::ResumeAlone() {
  for (const uint64_t session : sessions_->Ids()) {
    const absl::Status status = ResumeOneAlone(session);
    if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) {
      return status;  // it died again: all of this once more
    }
    if (status.ok()) continue;
    LogWarning("session not resumed",
               {{"session", session}, {"why", status.ToString()}});
    data_plane_.fail_session(
        session, absl::UnavailableError(absl::StrCat(
                     "the store came back without it: ", status.message())));
  }
  data_plane_.go_on();
  return absl::OkStatus();
}

absl::Status GroupControl::ResumeOneAlone(uint64_t session) {
  auto arguments = sessions_->ReopenAt(session, 0);
  if (!arguments) return absl::OkStatus();
  const GroupSessions::Progress progress = sessions_->SealedOf(session);
  // A prefix leaves a token to compute: without one more, the last segment
  // would not be looked for.
  std::vector<int32_t> tokens = arguments->tokens;
  tokens.push_back(0);
  FC_ASSIGN_OR_RETURN(
      const OpenedSession opened,
      clients_[0]->OpenScattered(arguments->model, tokens,
                                 arguments->request_id, arguments->before,
                                 arguments->shared));
  if (!sessions_->Rejoin(session, 0, opened)) {
    clients_[0]->CloseSession(opened.handle).IgnoreError();
    return absl::OkStatus();
  }
  if (!opened.resumed) {
    const std::vector<uint32_t>& held = opened.held_segments;
    FC_RETURN_IF_ERROR(data_plane_.restore(session, opened.handle, held));
    for (int i = 0; i < progress.sealed; ++i) {
      if (std::find(held.begin(), held.end(), i) != held.end()) continue;
      FC_RETURN_IF_ERROR(clients_[0]->SealSegment(
          opened.handle, i, TokensOf(arguments->tokens, i)));
    }
  }
  LogInfo("session resumed", {{"session", session},
                              {"held_segments", opened.held_segments.size()},
                              {"same_process", opened.resumed}});
  absl::MutexLock lock(&mutex_);
  ++(opened.resumed ? counters_.sessions_resumed
                    : counters_.sessions_reopened);
  return absl::OkStatus();
}

}  // namespace forecache
