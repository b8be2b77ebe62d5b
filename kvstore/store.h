// The store: sessions, segments, and what is done with blocks.
//
// Free of any network: the data plane and the gRPC service are two doors to it.
#ifndef FORECACHE_KVSTORE_STORE_H_
#define FORECACHE_KVSTORE_STORE_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/limits.h"
#include "common/monotonic_cond.h"
#include "kvstore/gather.h"
#include "kvstore/index.h"
#include "kvstore/probe.h"
#include "kvstore/session.h"
#include "kvstore/ssd/ssd_tier.h"
#include "kvstore/ssd_work.h"
#include "kvstore/store_metrics.h"
#include "kvstore/tenant_metrics.h"
#include "kvstore/tenants/registry.h"
#include "kvstore/tier.h"

namespace forecache {

struct StoreOptions {
  // Memory for planes and codes.  More holds more prefixes; what is pinned by
  // sessions must fit.
  size_t dram_bytes = size_t{1} << 30;
  // Takes that memory before the store serves, not page by page as it fills.
  bool prefault_dram = false;
  // Exact scans cost four times the memory traffic of codes.
  ProbeSource probe_source = ProbeSource::kCodes;
  // Of segments that are sealed from now on: docs/CODES.md has what each kind
  // is worth.
  CodeKind code_kind = kCodeKindDefault;
  // Keys the segment ids of the tenant "default".
  TenantSecret tenant_secret;
  size_t sessions_max = kSessionsMax;
  Nanos session_idle_timeout = kSessionIdleTimeout;
  // Which segment goes first when memory is short: see EvictionPolicyNames.
  // Another than the default is for comparisons.
  std::string eviction = kEvictionDefault;
  // Of the tier on SSD, for a store that is made with a disk.
  SsdOptions ssd;
  // Of session ids and keys.  Another than the default is for simulations.
  RandomSource random = FillRandom;
};

struct NewSession {
  uint64_t id = 0;
  uint64_t key[2] = {0, 0};
  int cached_tokens = 0;
  std::vector<uint32_t> held_segments;  // numbers of those that are pinned
};

// What of a prompt a session pins.
enum class PrefixPins {
  kLeading,  // the longest prefix that is held without a gap
  kAll,      // every segment that is held: other stores may fill the gaps
};

// What a session is opened for, beside its prompt.
//
// Threads: a value.
struct OpenOptions {
  PrefixPins pins = PrefixPins::kLeading;
  TenantId tenant = kDefaultTenant;  // who opens it, by its credential
  // A sharing domain in which the prompt's first tokens, as many as are whole
  // segments, are looked for and sealed; of the rest nobody else hears.
  std::string domain;
  size_t domain_tokens = 0;
};

// Whether a caller waits for what leaves memory for SSD.
enum class RoomWait { kForSsd, kNone };

struct SealResult {
  SegmentId id;
  bool already_held = false;
  bool durable = false;  // a crash or restart does not lose it
};

// What is held now.  Counters are in StoreMetrics.
struct StoreOccupancy {
  size_t sessions = 0;
  size_t segments = 0;
  size_t open_segments = 0;
  size_t dram_bytes = 0;
  size_t dram_capacity_bytes = 0;
  size_t dram_segments = 0;  // sealed ones; those in both tiers count in both
  // Of the tier on SSD, if there is one.
  size_t ssd_segments = 0;
  size_t ssd_bytes = 0;
  size_t ssd_capacity_bytes = 0;
  size_t ssd_metadata_bytes = 0;
  size_t ssd_queued = 0;  // segments that wait to be written
  bool ssd_writable = false;
};

// Threads: safe to call from any thread.  One lock guards sessions and index;
// it is never held while blocks are copied, checked or scanned.
// Lifetime: the clock and metrics outlive it, it outlives every snapshot.
class StoreCore {
 public:
  static absl::StatusOr<std::unique_ptr<StoreCore>> Create(
      const StoreOptions& options, Clock* clock, Metrics* metrics,
      std::unique_ptr<Disk> disk = nullptr);
  ~StoreCore();

  // --- Tenants (store_tenants.cc) ---

  // From now on these are the tenants; sessions of removed ones, and of those
  // whose secret changed, end with kPermissionDenied.  Returns whose ended.
  // kInvalidArgument: the floors do not fit the memory.
  absl::StatusOr<std::vector<TenantId>> ConfigureTenants(
      const std::vector<TenantConfig>& configs) ABSL_LOCKS_EXCLUDED(mu_);

  // --- Sessions (store.cc) ---

  // Opens a session over a prompt and pins what is held of it.  With kAll the
  // context is scattered over several stores: segments that are not here are
  // no gaps, neither for probes nor for seals.  kInvalidArgument names a field
  // outside its limit; kPermissionDenied: no such tenant any more, or not a
  // domain of its; kResourceExhausted at the limit of sessions; kUnavailable:
  // StopOpening was called.
  absl::StatusOr<NewSession> OpenSession(const ModelIdentityFields& model,
                                         std::span<const uint32_t> prompt,
                                         const std::string& request_id,
                                         const OpenOptions& options = {})
      ABSL_LOCKS_EXCLUDED(mu_);
  // Ends a session; one that is unknown, or another tenant's, has ended.
  void CloseSession(uint64_t session_id, TenantId caller = kDefaultTenant)
      ABSL_LOCKS_EXCLUDED(mu_);
  // From now on sessions are not opened any more (kUnavailable); those that
  // are open go on.
  void StopOpening() { opening_ = false; }
  // Tokens of the longest prefix held.  Pins nothing, and is no use of it.
  absl::StatusOr<int> LookupPrefix(const ModelIdentityFields& model,
                                   std::span<const uint32_t> prompt,
                                   TenantId caller = kDefaultTenant)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Ends sessions that were idle too long.  Returns how many.
  int ExpireIdle() ABSL_LOCKS_EXCLUDED(mu_);

  // The session for one request.  kUnauthenticated when it is unknown, ended,
  // another tenant's or the key is not its: which of them is not told.
  absl::StatusOr<SessionSnapshot> Authorize(uint64_t session_id,
                                            const uint64_t key[2],
                                            TenantId caller = kDefaultTenant)
      ABSL_LOCKS_EXCLUDED(mu_);
  // The same for callers of the control plane, which have no key.  kNotFound,
  // for another tenant's session as well.
  absl::StatusOr<SessionSnapshot> Snapshot(uint64_t session_id,
                                           TenantId caller = kDefaultTenant)
      ABSL_LOCKS_EXCLUDED(mu_);

  StoreOccupancy Occupancy() const ABSL_LOCKS_EXCLUDED(mu_);
  // Brings the gauges up to date.
  void UpdateGauges() ABSL_LOCKS_EXCLUDED(mu_);

  // --- Blocks (store_blocks.cc) ---

  // Puts whole blocks of one layer: `payload` as in wire::PutBlocksBody.  All
  // or nothing.  kInvalidArgument: a field or the payload's size; kDataLoss: a
  // part does not match its checksum; kFailedPrecondition: sealed;
  // kAlreadyExists: another content; kResourceExhausted: no memory that may be
  // evicted, or the tenant's ceiling; kNotFound: the session ended meanwhile.
  // Lets go of the snapshot's segments, so that they may make room.  With
  // RoomWait::kNone also kUnavailable: try again where it may wait.
  absl::Status PutBlocks(SessionSnapshot session, uint32_t layer,
                         uint32_t first_block, uint32_t block_count,
                         ByteView payload, RoomWait wait = RoomWait::kForSsd)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Packs blocks for a push.  A block that does not match its checksum is not
  // served; its segment leaves the index.
  PackedPush Gather(const SessionSnapshot& session,
                    std::span<const wire::FetchEntry> entries,
                    Gatherer* gatherer, MutableBytes payload)
      ABSL_LOCKS_EXCLUDED(mu_);

  // Seals a full segment.  Sealing it again is OK.  `tokens` ends with the
  // segment's 256; those of segments right before it may come first, for a
  // store that was not told them since they lie elsewhere.
  // kFailedPrecondition: blocks are missing, the segment before is open, or
  // the tokens before are not known; kInvalidArgument: not 256 tokens, or not
  // the prompt's; kDataLoss: a block was damaged since it was put; kAborted:
  // another request is sealing it.
  absl::StatusOr<SealResult> SealSegment(uint64_t session_id,
                                         uint32_t segment,
                                         std::span<const uint32_t> tokens,
                                         TenantId caller = kDefaultTenant)
      ABSL_LOCKS_EXCLUDED(mu_);

  // --- SSD (store_ssd.cc, store_demote.cc, store_promote.cc,
  // store_spill.cc) ---

  // Waits until a sealed segment is on SSD, kSsdDurableWait at most.  Whether
  // it is.
  bool AwaitDurable(const SegmentId& id) ABSL_LOCKS_EXCLUDED(mu_);
  // Waits until no segment waits to be written.  False after `timeout`.
  bool FlushSsd(Nanos timeout) ABSL_LOCKS_EXCLUDED(mu_);
  // Does one piece of the work between the tiers; false when there is none.
  // For callers without background threads.
  bool RunSsd() ABSL_LOCKS_EXCLUDED(mu_);

  // The session that was opened last for a request, 0 when there is none.
  uint64_t FindByRequest(const std::string& request_id)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Flips a bit of a stored part, for tests.
  absl::Status CorruptBlock(uint64_t session_id, uint32_t layer,
                            uint32_t kv_head, uint32_t block, bool value_part,
                            uint32_t bit) ABSL_LOCKS_EXCLUDED(mu_);

  TenantRegistry& tenants() { return tenants_; }
  StoreMetrics& metrics() { return metrics_; }
  ProbeSource probe_source() const { return options_.probe_source; }
  Nanos session_idle_timeout() const { return options_.session_idle_timeout; }
  const DramArena& arena() const { return *arena_; }
  Clock* clock() const { return clock_; }

 private:
  StoreCore(const StoreOptions& options, std::unique_ptr<DramArena> arena,
            Clock* clock, Metrics* metrics);

  absl::Status OpenSsd(std::unique_ptr<Disk> disk, Metrics* metrics)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Whether any tier holds it.
  bool Holds(const SegmentId& id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  size_t LongestPrefix(std::span<const SegmentId> ids) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Pins what is held of a chain; what is on SSD has no view yet.
  SegmentTable PinHeld(std::span<const SegmentId> ids)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Unpin(const SegmentRef& ref) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Brings the code planes of what is on SSD to memory.  A segment that cannot
  // be had leaves the table, and unless `scattered` those behind it do.
  void LoadPinned(TenantId tenant, bool scattered, SegmentTable* table)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Puts a sealed segment in line to be written.
  void Demote(const Index::EntryRef& entry, SegmentOrigin origin,
              std::shared_ptr<const SegmentView> view)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Remembers one that has no place in line now.
  void Defer(const SegmentId& id, SegmentOrigin origin)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Puts one of those in line; false when there is none, or no place.
  bool ResumeDeferred() ABSL_LOCKS_EXCLUDED(mu_);
  bool HasDeferred() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return !work_.deferred.empty() && ssd_->writable();
  }
  // Waits for a demotion that lets memory go; false when there is none.
  bool AwaitDemotion() ABSL_LOCKS_EXCLUDED(mu_);
  void SsdLoop();
  bool WriteNext() ABSL_LOCKS_EXCLUDED(mu_);
  absl::Status WriteDemotion(const Demotion& demotion)
      ABSL_LOCKS_EXCLUDED(mu_);
  void EndDemotion(Demotion demotion, const absl::Status& status)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Within the owner's ceiling, and sparing others' floors.
  absl::Status MakeRoomOnSsd(const Demotion& demotion, size_t bytes)
      ABSL_LOCKS_EXCLUDED(mu_);
  bool EvictFromSsd(TenantId owner, bool own_only) ABSL_LOCKS_EXCLUDED(mu_);
  // Entries of the index, and what they count with their owners.
  void InsertOnSsd(const SegmentId& id, const SegmentId& parent, TenantId owner,
                   size_t bytes, float worth)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EraseOnSsd(const Index::EntryRef& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Drops the copy on SSD, whose entry it is; false when it is gone.
  bool DropFromSsd(const Index::EntryRef& entry) ABSL_LOCKS_EXCLUDED(mu_);
  bool MayWrite(size_t bytes) ABSL_LOCKS_EXCLUDED(mu_);
  // Tries to write again, when it is time to.
  bool ReviveSsd() ABSL_LOCKS_EXCLUDED(mu_);
  bool NoteUses() ABSL_LOCKS_EXCLUDED(mu_);
  bool ScrubNext() ABSL_LOCKS_EXCLUDED(mu_);
  // A segment that sessions read from memory, and could from SSD.
  std::optional<Promotion> PickSpill(std::optional<TenantId> owner)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Makes them read it from SSD; false when there is none.  Its memory comes
  // back when the last snapshot goes.
  bool SpillOne(std::optional<TenantId> owner = std::nullopt)
      ABSL_LOCKS_EXCLUDED(mu_);
  bool PromoteNext() ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<std::shared_ptr<Segment>> ReadSegment(const SegmentId& id,
                                                       TenantId owner);
  void Promoted(const Promotion& promotion, std::shared_ptr<Segment> segment)
      ABSL_LOCKS_EXCLUDED(mu_);

  // The tenant; kPermissionDenied when it was removed.
  absl::StatusOr<TenantRef> FindTenant(TenantId id) const;
  // The session, used now, of a caller of the control plane.
  absl::StatusOr<Session*> FindSession(uint64_t session_id, TenantId caller)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Pins what is held of the session's prompt; what is on SSD has no view yet.
  SegmentTable PinPrefix(size_t prompt_tokens, const Session& session)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void CountHits(const SegmentTable& table)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void EndSession(Session* session) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The domain that a session asks for, if it may.
  absl::Status SetDomain(const Tenant& tenant, const OpenOptions& options,
                         Session* session) const;
  // A reader of a domain names what the domain has there, and no more.
  void LimitDomain(Session* session, std::span<const uint32_t> prompt)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Evicts until `bytes` of the arena can be charged to the owner and
  // `allocate` does not return kResourceExhausted, or nothing is left that may
  // go.
  absl::Status MakeRoomFor(const Tenant& owner, size_t bytes, RoomWait wait,
                           TierCharge* charge,
                           const std::function<absl::Status()>& allocate)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Evicts one, or with the wait that it is allowed moves one to SSD.  False:
  // nothing may go.
  absl::StatusOr<bool> MakeRoom(TenantId owner, bool own_only, RoomWait wait)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Evicts for `owner`: of its own only, or of others as well as far as their
  // floors let them go.  False when nothing may go.
  bool EvictOne(TenantId owner, bool own_only) ABSL_LOCKS_EXCLUDED(mu_);
  Index::EntryRef PickVictim(TenantId owner, bool own_only)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // The open segment `number` of a session, made when it is not there yet.
  absl::StatusOr<std::shared_ptr<Segment>> OpenSegment(
      const SessionSnapshot& session, size_t number, RoomWait wait)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Whose memory segment `number` of the session takes.
  absl::StatusOr<TenantRef> OwnerOf(uint64_t session_id, size_t number)
      ABSL_LOCKS_EXCLUDED(mu_);
  void Quarantine(const SessionSnapshot& session, int number)
      ABSL_LOCKS_EXCLUDED(mu_);
  // Steps of SealSegment.
  struct Sealing;
  absl::StatusOr<std::vector<SegmentId>> ChainIds(
      const Session& session, size_t segment,
      std::span<const uint32_t> tokens) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::StatusOr<Sealing> BeginSeal(uint64_t session_id, uint32_t segment,
                                    std::span<const uint32_t> tokens,
                                    TenantId caller)
      ABSL_LOCKS_EXCLUDED(mu_);
  absl::StatusOr<SealResult> FinishSeal(const Sealing& sealing)
      ABSL_LOCKS_EXCLUDED(mu_);

  const StoreOptions options_;
  Clock* const clock_;
  TenantRegistry tenants_;
  StoreMetrics metrics_;
  TenantMetrics tenant_metrics_;
  std::atomic<bool> opening_{true};
  // Before all that holds segments: those give their memory back to it.
  const std::unique_ptr<DramArena> arena_;
  const std::unique_ptr<Tier> tier_;
  std::unique_ptr<SsdTier> ssd_;  // null: there is none
  mutable absl::Mutex mu_;
  MonotonicCond ssd_work_;      // there is some
  MonotonicCond ssd_progress_;  // a demotion has ended
  Index index_ ABSL_GUARDED_BY(mu_);
  Index ssd_index_ ABSL_GUARDED_BY(mu_);
  SsdWork work_ ABSL_GUARDED_BY(mu_);
  Sessions sessions_ ABSL_GUARDED_BY(mu_);
  // Of the thread that runs RunSsd.
  Pacer write_pacer_;
  Pacer promote_pacer_;
  Pacer scrub_pacer_;
  std::vector<SegmentId> scrub_ids_;  // left of this round
  size_t scrub_plane_ = 0;            // of the last of them
  Nanos revive_wait_ = kSsdReviveWaitFirst;
  Nanos revive_due_ = 0;  // 0: no try is due
  std::atomic<bool> stopping_{false};
  std::thread ssd_thread_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_STORE_H_
