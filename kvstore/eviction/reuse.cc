#include "kvstore/eviction/reuse.h"

#include <algorithm>
#include <bit>

#include "common/check.h"
#include "common/limits.h"

namespace forecache {
namespace {

constexpr uint8_t kHitsMax = 255;
constexpr int kHitClasses = 5;    // 0, 1, 2, 3 to 4, more
constexpr int kFreshClasses = 8;  // below 2, 4, 8, ... 128, more
constexpr int kClasses = 1 + kHitClasses * 2 * kFreshClasses;
constexpr int kOpenTailClass = 0;
constexpr size_t kSample = 64;
constexpr uint64_t kUsesPerUpdate = 1000;

int HitClass(uint8_t hits) {
  if (hits <= 2) return hits;
  return hits <= 4 ? 3 : 4;
}

uint8_t FreshClass(size_t fresh) {
  const int log2 = static_cast<int>(std::bit_width(fresh)) - 1;
  return static_cast<uint8_t>(std::clamp(log2, 0, kFreshClasses - 1));
}

}  // namespace

ReuseEviction::ReuseEviction(uint64_t seed)
    : rng_(seed), model_(kClasses), reached_(ReuseModel::kAges) {
  model_.Update();
}

int ReuseEviction::ClassOf(const Entry& entry) {
  if (entry.context.open_tail) return kOpenTailClass;
  int kind = HitClass(entry.hits) * 2 + (entry.context.continued ? 1 : 0);
  return 1 + kind * kFreshClasses + entry.context.fresh;
}

ReuseEviction::Entry& ReuseEviction::Find(const SegmentId& id) {
  auto found = entries_.find(id);
  FC_CHECK(found != entries_.end() && found->second.held) << id.ToHex();
  return found->second;
}

void ReuseEviction::Arrive(const PrefixRequest& request) {
  now_ = std::max(now_, request.now);
  victim_ = {};
  Age();
  if (first_use_ + uses_.size() >= next_update_) {
    model_.Update();
    next_update_ = first_use_ + uses_.size() + kUsesPerUpdate;
  }
  size_t known = 0;
  while (known < request.chain.size() &&
         entries_.contains(request.chain[known])) {
    ++known;
  }
  Context context;
  // One segment alone is but a system prompt that many contexts share.
  context.continued = known > 1;
  context.fresh = FreshClass(request.chain.size() - known);
  for (size_t i = 0; i < request.chain.size(); ++i) {
    Entry& entry = entries_[request.chain[i]];
    entry.id = request.chain[i];
    entry.counted = true;
    context.open_tail =
        !request.tail_is_full && i + 1 == request.chain.size();
    CountUse(&entry, context);
  }
  Age();
}

void ReuseEviction::CountUse(Entry* entry, const Context& context) {
  victim_ = {};
  model_.Fade();
  const bool first = entry->use == 0;
  if (!first) entry->hits = std::min<int>(entry->hits + 1, kHitsMax);
  if (!first && entry->use > first_use_) {
    uses_[entry->use - 1 - first_use_].latest = false;
    model_.CountReuse(entry->of_class, ReuseModel::AgeOf(now_ - entry->used));
  }
  entry->context = context;
  entry->of_class = ClassOf(*entry);
  entry->used = now_;
  uses_.push_back({now_, entry, entry->of_class, true});
  entry->use = first_use_ + uses_.size();
  if (entry->place >= 0) {
    evictable_.at(entry->owner)[entry->place] = CandidateOf(entry);
  }
}

void ReuseEviction::Age() {
  for (int age = 0; age < ReuseModel::kAges; ++age) {
    const Nanos start = ReuseModel::StartOf(age);
    uint64_t& next = reached_[age];
    for (; next < first_use_ + uses_.size(); ++next) {
      const Use& use = uses_[next - first_use_];
      if (now_ - use.time < start) break;
      if (use.latest) model_.CountAlive(use.of_class, age);
    }
  }
  while (uses_.size() > kEvictionHistoryMax) {
    const Use& oldest = uses_.front();
    if (oldest.latest && !oldest.entry->held) {
      entries_.erase(SegmentId(oldest.entry->id));
    }
    uses_.pop_front();
    ++first_use_;
  }
  for (uint64_t& next : reached_) next = std::max(next, first_use_);
}

void ReuseEviction::Insert(const SegmentId& id, uint32_t owner,
                           float worth) {
  Entry& entry = entries_[id];
  FC_CHECK(!entry.held) << id.ToHex();
  entry.id = id;
  entry.held = true;
  entry.owner = owner;
  entry.worth = worth;
  victim_ = {};
  if (!entry.counted) {
    // No request named it: it was decoded, behind all that is held.
    Context context;
    context.continued = true;
    CountUse(&entry, context);
    Age();
  }
  entry.counted = false;
}

void ReuseEviction::Erase(const SegmentId& id) {
  SetEvictable(id, false);
  Entry& entry = Find(id);
  entry.held = false;
  if (entry.use <= first_use_) entries_.erase(SegmentId(id));
}

void ReuseEviction::Touch(const SegmentId& id) {
  Entry& entry = Find(id);
  if (!entry.counted) {
    CountUse(&entry, entry.context);
    Age();
  }
  entry.counted = false;
}

void ReuseEviction::SetEvictable(const SegmentId& id, bool evictable) {
  Entry& entry = Find(id);
  if ((entry.place >= 0) == evictable) return;
  victim_ = {};
  std::vector<Candidate>& of_owner = evictable_[entry.owner];
  if (evictable) {
    entry.place = static_cast<int>(of_owner.size());
    of_owner.push_back(CandidateOf(&entry));
    return;
  }
  of_owner[entry.place] = of_owner.back();
  of_owner[entry.place].entry->place = entry.place;
  of_owner.pop_back();
  entry.place = -1;
  if (of_owner.empty()) evictable_.erase(entry.owner);
}

float ReuseEviction::ValueOf(const Candidate& candidate) const {
  return candidate.worth *
         model_.Value(candidate.of_class,
                      ReuseModel::AgeOf(now_ - candidate.used));
}

ReuseEviction::Candidate ReuseEviction::LeastOfSample(
    const OwnerFilter& may_lose) {
  std::vector<const std::vector<Candidate>*> lists;
  size_t size = 0;
  for (const auto& [owner, candidates] : evictable_) {
    if (may_lose && !may_lose(owner)) continue;
    lists.push_back(&candidates);
    size += candidates.size();
  }
  Candidate least;
  float least_value = 0;
  const bool all = size <= kSample;
  const size_t looks = all ? size : kSample;
  for (size_t i = 0; i < looks; ++i) {
    size_t at = all ? i : rng_.Below(size);
    size_t list = 0;
    while (at >= lists[list]->size()) at -= lists[list++]->size();
    const Candidate& candidate = (*lists[list])[at];
    const float value = ValueOf(candidate);
    if (least.entry == nullptr || value < least_value ||
        (value == least_value && candidate.use < least.use)) {
      least = candidate;
      least_value = value;
    }
  }
  return least;
}

bool ReuseEviction::Admit(const SegmentId& id, float worth) {
  if (!Victim({})) return false;
  auto found = entries_.find(id);
  if (found == entries_.end()) return true;
  Candidate newcomer = CandidateOf(&found->second);
  newcomer.worth = worth;
  return ValueOf(newcomer) >= ValueOf(victim_);
}

std::optional<SegmentId> ReuseEviction::Victim(const OwnerFilter& may_lose) {
  if (evictable_.empty()) return std::nullopt;
  if (may_lose) {
    const Candidate least = LeastOfSample(may_lose);
    if (least.entry == nullptr) return std::nullopt;
    return least.entry->id;
  }
  if (victim_.entry == nullptr) victim_ = LeastOfSample({});
  return victim_.entry->id;
}

}  // namespace forecache
