#include "kvstore/store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/log.h"
#include "common/status.h"
#include "kvstore/dram_tier.h"

namespace forecache {
namespace {

// Fixed, so that a store's victims can be told again from its requests.
constexpr uint64_t kEvictionSeed = 1;

absl::Status ValidatePrompt(const ModelIdentityFields& model,
                            std::span<const uint32_t> prompt) {
  FC_RETURN_IF_ERROR(Annotate(model.geometry.Validate(), "model"));
  if (prompt.empty() || prompt.size() > kContextTokensMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("prompt_tokens has ", prompt.size(),
                     " tokens, must have 1..", kContextTokensMax));
  }
  return absl::OkStatus();
}

// Segments of a prompt that a prefix may cover: at least one token is left to
// compute, since its logits are what the worker wants.
size_t PrefixSegmentsMax(size_t prompt_tokens) {
  return (prompt_tokens - 1) / kSegmentTokens;
}

}  // namespace

absl::StatusOr<std::unique_ptr<StoreCore>> StoreCore::Create(
    const StoreOptions& options, Clock* clock, Metrics* metrics,
    std::unique_ptr<Disk> disk) {
  if (NewEvictionPolicy(options.eviction, kEvictionSeed) == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("eviction: no policy '", options.eviction, "'"));
  }
  FC_ASSIGN_OR_RETURN(auto arena, DramArena::Create(options.dram_bytes));
  if (options.prefault_dram) {
    LogInfo("taking the memory for blocks",
            {{"bytes", arena->capacity_bytes()}});
    arena->Prefault();
  }
  auto store = std::unique_ptr<StoreCore>(
      new StoreCore(options, std::move(arena), clock, metrics));
  if (disk != nullptr) {
    FC_RETURN_IF_ERROR(store->OpenSsd(std::move(disk), metrics));
  }
  store->UpdateGauges();
  return store;
}

StoreCore::StoreCore(const StoreOptions& options,
                     std::unique_ptr<DramArena> arena, Clock* clock,
                     Metrics* metrics)
    : options_(options),
      clock_(clock),
      tenants_(options.tenant_secret),
      metrics_(metrics),
      tenant_metrics_(metrics, &tenants_),
      arena_(std::move(arena)),
      tier_(std::make_unique<DramTier>(arena_.get())),
      index_(NewEvictionPolicy(options.eviction, kEvictionSeed)),
      ssd_index_(NewEvictionPolicy(options.eviction, kEvictionSeed)),
      sessions_(options.sessions_max, options.session_idle_timeout,
                options.random),
      write_pacer_(options.ssd.write_bytes_per_second),
      promote_pacer_(options.ssd.promote_bytes_per_second),
      scrub_pacer_(options.ssd.scrub_bytes_per_second) {}

StoreCore::~StoreCore() {
  stopping_ = true;
  {
    absl::MutexLock lock(&mu_);
    work_.stop = true;
    ssd_work_.SignalAll();
  }
  if (ssd_thread_.joinable()) ssd_thread_.join();
  absl::MutexLock lock(&mu_);
  for (const Demotion& demotion : work_.demotions) index_.Unpin(demotion.pin);
  work_.demotions.clear();
  for (auto& session : sessions_.RemoveAll()) EndSession(session.get());
}

absl::StatusOr<TenantRef> StoreCore::FindTenant(TenantId id) const {
  TenantRef tenant = tenants_.Find(id);
  if (tenant != nullptr) return tenant;
  return absl::PermissionDeniedError(
      absl::StrCat("tenant: ", tenants_.NameOf(id), " was removed"));
}

absl::StatusOr<Session*> StoreCore::FindSession(uint64_t session_id,
                                                TenantId caller) {
  Session* session = sessions_.Find(session_id, clock_->Now());
  if (session != nullptr && session->tenant->id == caller) {
    if (!session->ended.ok()) return session->ended;
    return session;
  }
  return absl::NotFoundError(
      absl::StrCat("session_id: ", session_id, " is unknown or has ended"));
}

absl::StatusOr<NewSession> StoreCore::OpenSession(
    const ModelIdentityFields& model, std::span<const uint32_t> prompt,
    const std::string& request_id, const OpenOptions& options) {
  FC_RETURN_IF_ERROR(ValidatePrompt(model, prompt));
  if (!opening_) {
    return absl::UnavailableError("the store drains: no new sessions");
  }
  Session wanted;
  FC_ASSIGN_OR_RETURN(wanted.tenant, FindTenant(options.tenant));
  FC_RETURN_IF_ERROR(SetDomain(*wanted.tenant, options, &wanted));
  wanted.geometry = model.geometry;
  wanted.model = ModelDigest::Of(model);
  wanted.request_id = request_id;
  wanted.scattered = options.pins == PrefixPins::kAll;
  wanted.NameSegments(prompt, 0);  // not under the lock: it takes long
  // What is decoded later is nobody else's.
  wanted.domain_segments =
      std::min(wanted.domain_segments, wanted.chain.size());
  const bool scattered = wanted.scattered;
  NewSession opened;
  SegmentTable table;
  {
    absl::MutexLock lock(&mu_);
    // It may have been removed or changed since.
    FC_ASSIGN_OR_RETURN(const TenantRef now, FindTenant(options.tenant));
    if (now != wanted.tenant) {
      return absl::AbortedError("tenant: it changed just now: ask again");
    }
    LimitDomain(&wanted, prompt);
    FC_ASSIGN_OR_RETURN(Session * session,
                        sessions_.Open(clock_->Now(), std::move(wanted)));
    session->segments = std::make_shared<SegmentTable>();
    opened.id = session->id;
    std::copy(session->key, session->key + 2, opened.key);
    table = PinPrefix(prompt.size(), *session);
  }
  LoadPinned(options.tenant, scattered, &table);
  {
    absl::MutexLock lock(&mu_);
    auto session = FindSession(opened.id, options.tenant);
    if (!session.ok()) {  // its tenant was removed meanwhile
      for (const SegmentRef& ref : table) Unpin(ref);
      return session.status();
    }
    CountHits(table);
    size_t leading = 0;
    while (leading < table.size() && table[leading].sealed()) ++leading;
    (*session)->segments = std::make_shared<SegmentTable>(std::move(table));
    opened.cached_tokens = static_cast<int>(leading) * kSegmentTokens;
    opened.held_segments = (*session)->Snapshot().SealedSegments();
  }
  metrics_.sessions_opened->Add();
  metrics_.prefix_lookups->Add();
  metrics_.prefix_tokens_asked->Add(prompt.size());
  const size_t hit = opened.held_segments.size() * kSegmentTokens;
  TenantMetrics::Series& tenant = tenant_metrics_.Of(options.tenant);
  tenant.prefix_tokens_asked->Add(prompt.size());
  tenant.prefix_tokens_hit->Add(hit);
  return opened;
}

SegmentTable StoreCore::PinPrefix(size_t prompt_tokens,
                                  const Session& session) {
  const PrefixRequest request = {.now = clock_->Now(),
                                 .chain = session.chain,
                                 .tenant = session.tenant->id};
  index_.Arrive(request);
  if (ssd_ != nullptr) ssd_index_.Arrive(request);
  auto prefix =
      std::span(session.chain).first(PrefixSegmentsMax(prompt_tokens));
  if (!session.scattered) prefix = prefix.first(LongestPrefix(prefix));
  return PinHeld(prefix);
}

void StoreCore::CountHits(const SegmentTable& table) {
  for (const SegmentRef& ref : table) {
    if (!ref.sealed()) continue;
    (ref.on_ssd ? metrics_.prefix_tokens_hit_ssd
                : metrics_.prefix_tokens_hit_dram)
        ->Add(kSegmentTokens);
  }
}

void StoreCore::EndSession(Session* session) {
  for (const SegmentRef& ref : *session->segments) {
    Unpin(ref);
  }
  session->segments = std::make_shared<SegmentTable>();
  session->open_segments = 0;
}

void StoreCore::CloseSession(uint64_t session_id, TenantId caller) {
  absl::MutexLock lock(&mu_);
  if (!FindSession(session_id, caller).ok()) return;
  EndSession(sessions_.Remove(session_id).get());
}

absl::StatusOr<int> StoreCore::LookupPrefix(const ModelIdentityFields& model,
                                            std::span<const uint32_t> prompt,
                                            TenantId caller) {
  FC_RETURN_IF_ERROR(ValidatePrompt(model, prompt));
  Session wanted;
  FC_ASSIGN_OR_RETURN(wanted.tenant, FindTenant(caller));
  wanted.model = ModelDigest::Of(model);
  wanted.NameSegments(prompt, 0);
  absl::MutexLock lock(&mu_);
  return static_cast<int>(LongestPrefix(std::span(wanted.chain).first(
             PrefixSegmentsMax(prompt.size())))) *
         kSegmentTokens;
}

int StoreCore::ExpireIdle() {
  int expired = 0;
  absl::MutexLock lock(&mu_);
  for (auto& session : sessions_.RemoveIdle(clock_->Now())) {
    LogInfo("session expired", {{"session", session->id},
                                {"request", session->request_id}});
    EndSession(session.get());
    metrics_.sessions_expired->Add();
    ++expired;
  }
  return expired;
}

absl::StatusOr<SessionSnapshot> StoreCore::Authorize(uint64_t session_id,
                                                     const uint64_t key[2],
                                                     TenantId caller) {
  absl::MutexLock lock(&mu_);
  Session* session = sessions_.Find(session_id, clock_->Now());
  if (session == nullptr || session->tenant->id != caller ||
      !SameKey(session->key, key)) {
    return absl::UnauthenticatedError(
        "session: unknown, ended, or the session key is not its key");
  }
  if (!session->ended.ok()) return session->ended;
  return session->Snapshot();
}

absl::StatusOr<SessionSnapshot> StoreCore::Snapshot(uint64_t session_id,
                                                    TenantId caller) {
  absl::MutexLock lock(&mu_);
  FC_ASSIGN_OR_RETURN(Session * session, FindSession(session_id, caller));
  return session->Snapshot();
}

StoreOccupancy StoreCore::Occupancy() const {
  StoreOccupancy now;
  if (ssd_ != nullptr) {  // asks the disk, so before the lock
    now.ssd_bytes = ssd_->used_bytes();
    now.ssd_capacity_bytes = options_.ssd.tier.capacity_bytes;
    now.ssd_metadata_bytes = ssd_->metadata_bytes();
    now.ssd_writable = ssd_->writable();
  }
  absl::MutexLock lock(&mu_);
  now.sessions = sessions_.size();
  now.open_segments = sessions_.OpenSegments();
  now.dram_bytes = arena_->used_bytes();
  now.dram_capacity_bytes = arena_->capacity_bytes();
  now.dram_segments = index_.size();
  now.ssd_segments = ssd_index_.size();
  now.segments = index_.size() + ssd_index_.size() - index_.CountIn(ssd_index_);
  now.ssd_queued = work_.demotions.size() + work_.writing;
  return now;
}

void StoreCore::UpdateGauges() {
  StoreOccupancy now = Occupancy();
  metrics_.sessions->Set(now.sessions);
  metrics_.segments->Set(now.segments);
  metrics_.open_segments->Set(now.open_segments);
  metrics_.dram_bytes->Set(now.dram_bytes);
  metrics_.dram_capacity_bytes->Set(now.dram_capacity_bytes);
  metrics_.ssd_segments->Set(now.ssd_segments);
  metrics_.ssd_bytes->Set(now.ssd_bytes);
  metrics_.ssd_capacity_bytes->Set(now.ssd_capacity_bytes);
  metrics_.ssd_metadata_bytes->Set(now.ssd_metadata_bytes);
  metrics_.ssd_queued->Set(now.ssd_queued);
  metrics_.ssd_writable->Set(now.ssd_writable);
  tenant_metrics_.Update();
}

}  // namespace forecache
