#include "kvstore/session.h"

#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "kvstore/secret.h"

namespace forecache {

bool SameKey(const uint64_t a[2], const uint64_t b[2]) {
  return SameSecret(std::as_bytes(std::span(a, 2)),
                    std::as_bytes(std::span(b, 2)));
}

std::vector<uint32_t> SessionSnapshot::SealedSegments() const {
  std::vector<uint32_t> sealed;
  for (size_t i = 0; i < segments->size(); ++i) {
    if ((*segments)[i].sealed()) sealed.push_back(static_cast<uint32_t>(i));
  }
  return sealed;
}

void Session::NameSegments(std::span<const uint32_t> prompt, size_t first) {
  chain.resize(prompt.size() / kSegmentTokens);
  for (size_t i = first; i < chain.size(); ++i) {
    chain[i] = MakeSegmentId(
        OwnerOf(i)->secret, model, i > 0 ? chain[i - 1] : kRootSegment,
        prompt.subspan(i * kSegmentTokens, kSegmentTokens));
  }
}

SegmentId Session::SealedBefore(size_t number) const {
  while (number > 0) {
    const SegmentRef& ref = (*segments)[--number];
    if (ref.sealed()) return ref.pin->id;
  }
  return kRootSegment;
}

void Session::SetSegment(size_t number, SegmentRef ref) {
  auto changed = std::make_shared<SegmentTable>(*segments);
  if (changed->size() <= number) changed->resize(number + 1);
  open_segments -= (*changed)[number].open != nullptr;
  open_segments += ref.open != nullptr;
  (*changed)[number] = std::move(ref);
  segments = std::move(changed);
}

absl::StatusOr<Session*> Sessions::Open(Nanos now, Session wanted) {
  if (sessions_.size() >= limit_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("sessions: ", limit_, " are open, which is the limit"));
  }
  auto session = std::make_unique<Session>(std::move(wanted));
  do {
    random_(std::as_writable_bytes(std::span(&session->id, 1)));
  } while (session->id == 0 || sessions_.contains(session->id));
  random_(std::as_writable_bytes(std::span(session->key)));
  session->segments = std::make_shared<SegmentTable>();
  session->last_used = now;
  Session* opened = session.get();
  sessions_.emplace(opened->id, std::move(session));
  return opened;
}

Session* Sessions::Find(uint64_t id, Nanos now) {
  auto found = sessions_.find(id);
  if (found == sessions_.end()) return nullptr;
  Session* session = found->second.get();
  if (now - session->last_used > idle_timeout_) return nullptr;
  session->last_used = now;
  return session;
}

uint64_t Sessions::FindByRequest(const std::string& request_id) const {
  const Session* found = nullptr;
  for (const auto& [id, session] : sessions_) {
    if (session->request_id != request_id) continue;
    if (found == nullptr || session->last_used > found->last_used) {
      found = session.get();
    }
  }
  return found == nullptr ? 0 : found->id;
}

std::unique_ptr<Session> Sessions::Remove(uint64_t id) {
  auto node = sessions_.extract(id);
  return node.empty() ? nullptr : std::move(node.mapped());
}

std::vector<std::unique_ptr<Session>> Sessions::RemoveIdle(Nanos now) {
  std::vector<std::unique_ptr<Session>> removed;
  for (auto it = sessions_.begin(); it != sessions_.end();) {
    if (now - it->second->last_used > idle_timeout_) {
      removed.push_back(std::move(it->second));
      it = sessions_.erase(it);
    } else {
      ++it;
    }
  }
  return removed;
}

std::vector<std::unique_ptr<Session>> Sessions::RemoveAll() {
  std::vector<std::unique_ptr<Session>> removed;
  for (auto& [id, session] : sessions_) removed.push_back(std::move(session));
  sessions_.clear();
  return removed;
}

size_t Sessions::OpenSegments() const {
  size_t open = 0;
  for (const auto& [id, session] : sessions_) open += session->open_segments;
  return open;
}

}  // namespace forecache
