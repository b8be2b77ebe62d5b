#include "kvstore/index.h"

#include <utility>

#include "common/check.h"

namespace forecache {

Index::Index(std::unique_ptr<EvictionPolicy> policy)
    : policy_(std::move(policy)) {}

size_t Index::LongestPrefix(std::span<const SegmentId> ids) const {
  size_t held = 0;
  while (held < ids.size() && Contains(ids[held])) ++held;
  return held;
}

Index::EntryRef Index::Pin(const SegmentId& id) {
  auto found = entries_.find(id);
  if (found == entries_.end()) return nullptr;
  ++found->second->pins;
  policy_->Touch(id);
  Refresh(id);
  return found->second;
}

Index::EntryRef Index::Find(const SegmentId& id) const {
  auto found = entries_.find(id);
  return found == entries_.end() ? nullptr : found->second;
}

void Index::Hold(const EntryRef& entry) {
  ++entry->pins;
  if (entry->held) Refresh(entry->id);
}

void Index::Unpin(const EntryRef& entry) {
  FC_CHECK(entry->pins > 0);
  --entry->pins;
  if (entry->held) Refresh(entry->id);
}

Index::EntryRef Index::Insert(const SegmentId& id, const SegmentId& parent,
                              TenantId owner, size_t bytes, float worth) {
  auto entry =
      std::make_shared<Entry>(Entry{id, parent, owner, bytes, worth, 1, true});
  bool fresh = entries_.emplace(id, entry).second;
  FC_CHECK(fresh) << id.ToHex();
  policy_->Insert(id, owner, worth);
  ++children_[parent];
  Refresh(id);
  Refresh(parent);
  return entry;
}

bool Index::Erase(const SegmentId& id) {
  auto found = entries_.find(id);
  if (found == entries_.end()) return false;
  EntryRef entry = found->second;
  entry->held = false;
  entries_.erase(found);
  policy_->Erase(id);
  auto siblings = children_.find(entry->parent);
  FC_CHECK(siblings != children_.end() && siblings->second > 0);
  if (--siblings->second == 0) children_.erase(siblings);
  Refresh(entry->parent);
  return true;
}

Index::EntryRef Index::Victim(const OwnerFilter& may_lose) const {
  const std::optional<SegmentId> id = policy_->Victim(may_lose);
  return id ? entries_.at(*id) : nullptr;
}

std::optional<SegmentId> Index::Evict() {
  const EntryRef victim = Victim();
  if (victim == nullptr) return std::nullopt;
  Erase(victim->id);
  return victim->id;
}

size_t Index::CountIn(const Index& other) const {
  size_t both = 0;
  for (const auto& [id, entry] : entries_) both += other.Contains(id);
  return both;
}

// Tells the policy whether `id` may go now.
void Index::Refresh(const SegmentId& id) {
  auto found = entries_.find(id);
  if (found == entries_.end()) return;
  bool leaf = !children_.contains(id);
  policy_->SetEvictable(id, leaf && found->second->pins == 0);
}

}  // namespace forecache
