#include "kvstore/client/group_sessions.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/limits.h"

namespace forecache {

GroupSessions::GroupSessions(MemberList members)
    : placement_(std::move(members)), alive_(placement_.size(), true) {
  FC_CHECK(placement_.size() <= kStoresMax) << placement_.size();
}

const GroupSessions::Context* GroupSessions::FindContext(uint64_t id) const {
  auto found = contexts_.find(id);
  return found == contexts_.end() ? nullptr : &found->second;
}

OpenedSession GroupSessions::Open(
    const ModelFingerprint& model, std::span<const int32_t> prompt,
    const std::string& request_id,
    std::span<const std::optional<OpenedSession>> opened,
    const SharedPrefix& shared) {
  FC_CHECK(static_cast<int>(opened.size()) == members());
  Context context{
      .model = model, .request_id = request_id, .shared = shared};
  context.tokens.assign(prompt.begin(), prompt.end());
  context.keys = PlacementKeys(prompt);
  const int full = static_cast<int>(prompt.size()) / kSegmentTokens;
  context.homes.assign(full, -1);
  context.held.assign(full, false);
  std::vector<std::vector<bool>> holds(members(), std::vector<bool>(full));
  for (int m = 0; m < members(); ++m) {
    context.handles.push_back(opened[m] ? opened[m]->handle : SessionHandle());
    context.told.push_back(opened[m] ? full : 0);
    if (!opened[m]) continue;
    for (uint32_t segment : opened[m]->held_segments) {
      if (segment < static_cast<uint32_t>(full)) holds[m][segment] = true;
    }
  }
  OpenedSession result;
  bool leading = true;
  for (int i = 0; i < full; ++i) {
    for (int m : placement_.Rank(context.keys[i])) {
      if (!holds[m][i]) continue;
      context.homes[i] = m;
      context.held[i] = true;
      break;
    }
    leading = leading && context.held[i];
    if (leading) result.cached_tokens = (i + 1) * kSegmentTokens;
  }
  result.handle.geometry = model.geometry;
  context.sealed = {result.cached_tokens / kSegmentTokens,
                    result.cached_tokens / kSegmentTokens};
  absl::MutexLock lock(&mutex_);
  if (members() == 1) {
    result.handle = context.handles[0];
  } else {
    result.handle.id = next_id_++;
  }
  contexts_.emplace(result.handle.id, std::move(context));
  return result;
}

std::vector<SessionHandle> GroupSessions::Close(uint64_t id) {
  absl::MutexLock lock(&mutex_);
  auto node = contexts_.extract(id);
  return node.empty() ? std::vector<SessionHandle>()
                      : std::move(node.mapped().handles);
}

void GroupSessions::Extend(uint64_t id, std::span<const int32_t> tokens) {
  std::vector<uint64_t> keys = PlacementKeys(tokens);
  absl::MutexLock lock(&mutex_);
  auto found = contexts_.find(id);
  if (found == contexts_.end()) return;
  if (tokens.size() <= found->second.tokens.size()) return;  // it only grows
  found->second.tokens.assign(tokens.begin(), tokens.end());
  found->second.keys = std::move(keys);
}

SegmentPlace GroupSessions::PlaceOf(const Context& context,
                                    int segment) const {
  if (segment < 0 || segment >= static_cast<int>(context.homes.size())) {
    return {};
  }
  const int member = context.homes[segment];
  if (member < 0) return {};
  return {member, context.handles[member], context.held[segment]};
}

SegmentPlace GroupSessions::Find(uint64_t id, int segment) const {
  absl::MutexLock lock(&mutex_);
  const Context* context = FindContext(id);
  return context == nullptr ? SegmentPlace() : PlaceOf(*context, segment);
}

SegmentPlace GroupSessions::Choose(uint64_t id, int segment,
                                   uint64_t avoid) {
  absl::MutexLock lock(&mutex_);
  auto found = contexts_.find(id);
  if (found == contexts_.end()) return {};
  Context& context = found->second;
  if (static_cast<int>(context.homes.size()) <= segment) {
    context.homes.resize(segment + 1, -1);
    context.held.resize(segment + 1, false);
  }
  if (context.homes[segment] < 0) {
    // A segment without a key was put before it was told of: its number
    // serves, at the price that nobody else finds it at its place.
    const uint64_t key = segment < static_cast<int>(context.keys.size())
                             ? context.keys[segment]
                             : static_cast<uint64_t>(segment);
    for (int m : placement_.Rank(key)) {
      if (!alive_[m] || context.handles[m].id == 0) continue;
      if ((avoid >> m & 1) != 0) continue;
      context.homes[segment] = m;
      break;
    }
  }
  return PlaceOf(context, segment);
}

void GroupSessions::Leave(uint64_t id, int segment, int member) {
  absl::MutexLock lock(&mutex_);
  auto found = contexts_.find(id);
  if (found == contexts_.end()) return;
  Context& context = found->second;
  if (segment >= static_cast<int>(context.homes.size())) return;
  if (context.homes[segment] != member) return;
  context.homes[segment] = -1;
  context.held[segment] = false;
}

std::vector<MemberPart> GroupSessions::Parts(uint64_t id, int blocks) const {
  std::vector<MemberPart> parts;
  absl::MutexLock lock(&mutex_);
  const Context* context = FindContext(id);
  if (context == nullptr) return parts;
  const int segments = std::min<int>(
      context->homes.size(), (blocks + kSegmentBlocks - 1) / kSegmentBlocks);
  for (int m = 0; m < members(); ++m) {
    MemberPart part{.member = m, .handle = context->handles[m]};
    for (int i = 0; i < segments; ++i) {
      if (context->homes[i] == m) part.segments.push_back(i);
    }
    if (!part.segments.empty()) parts.push_back(std::move(part));
  }
  return parts;
}

void GroupSessions::SetAlive(int member, bool alive) {
  absl::MutexLock lock(&mutex_);
  alive_[member] = alive;
}

bool GroupSessions::IsAlive(int member) const {
  absl::MutexLock lock(&mutex_);
  return alive_[member];
}

SessionHandle GroupSessions::HandleAt(uint64_t id, int member) const {
  absl::MutexLock lock(&mutex_);
  const Context* context = FindContext(id);
  return context == nullptr ? SessionHandle() : context->handles[member];
}

GroupSessions::Progress GroupSessions::SealedOf(uint64_t id) const {
  absl::MutexLock lock(&mutex_);
  const Context* context = FindContext(id);
  return context == nullptr ? Progress() : context->sealed;
}

void GroupSessions::SetSealed(uint64_t id, Progress progress) {
  absl::MutexLock lock(&mutex_);
  auto found = contexts_.find(id);
  if (found != contexts_.end()) found->second.sealed = progress;
}

int GroupSessions::Untold(uint64_t id, int member) const {
  absl::MutexLock lock(&mutex_);
  const Context* context = FindContext(id);
  return context == nullptr ? 0 : context->told[member];
}

void GroupSessions::SetTold(uint64_t id, int member, int segments) {
  absl::MutexLock lock(&mutex_);
  auto found = contexts_.find(id);
  if (found == contexts_.end()) return;
  int& told = found->second.told[member];
  told = std::max(told, segments);
}

std::vector<uint64_t> GroupSessions::Ids() const {
  std::vector<uint64_t> ids;
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, context] : contexts_) ids.push_back(id);
  return ids;
}

std::optional<ReopenArguments> GroupSessions::ReopenAt(uint64_t id,
                                                       int member) const {
  absl::MutexLock lock(&mutex_);
  const Context* context = FindContext(id);
  if (context == nullptr) return std::nullopt;
  return ReopenArguments{context->model, context->tokens, context->request_id,
                         context->handles[member], context->shared};
}

bool GroupSessions::Rejoin(uint64_t id, int member,
                           const OpenedSession& opened) {
  absl::MutexLock lock(&mutex_);
  auto found = contexts_.find(id);
  if (found == contexts_.end()) return false;
  Context& context = found->second;
  context.handles[member] = opened.handle;
  if (opened.resumed) return true;
  context.told[member] =
      static_cast<int>(context.tokens.size()) / kSegmentTokens;
  // What it had of this context and does not hold any more is absent.
  for (size_t i = 0; i < context.homes.size(); ++i) {
    if (context.homes[i] != member) continue;
    const bool still = std::count(opened.held_segments.begin(),
                                  opened.held_segments.end(), i) > 0;
    if (!still) context.homes[i] = -1;
    context.held[i] = still;
  }
  // What nobody has, and it holds, is there again.
  for (uint32_t segment : opened.held_segments) {
    if (segment >= context.homes.size() || context.homes[segment] >= 0) {
      continue;
    }
    context.homes[segment] = member;
    context.held[segment] = true;
  }
  return true;
}

}  // namespace forecache
