// Sessions: who may read and write which context.
#ifndef FORECACHE_KVSTORE_SESSION_H_
#define FORECACHE_KVSTORE_SESSION_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "kvstore/index.h"
#include "kvstore/secret.h"
#include "kvstore/segment.h"
#include "kvstore/segment_id.h"
#include "kvstore/tenants/tenant.h"

namespace forecache {

// One segment of a session's context.
//
// Threads: a value.
struct SegmentRef {
  std::shared_ptr<const SegmentView> view;  // null until a block is put
  std::shared_ptr<Segment> open;            // while it is open
  Index::EntryRef pin;                      // once it is sealed
  bool on_ssd = false;                      // whose index the pin is of
  bool sealed() const { return pin != nullptr; }
};

// The segments of one context, in order.  Never changed once a snapshot may
// have it: a session that changes gets a new table.
using SegmentTable = std::vector<SegmentRef>;

// A session as one request works on it, without a lock: all that it names is
// pinned.
//
// Threads: a value.
struct SessionSnapshot {
  uint64_t session_id = 0;
  TenantRef tenant;  // whose session it is, and its shares
  KvGeometry geometry;
  std::shared_ptr<const SegmentTable> segments;
  // Set when the session was ended by force, its tenant being removed.
  std::shared_ptr<const std::atomic<bool>> revoked;

  bool IsRevoked() const { return revoked != nullptr && *revoked; }
  // Numbers of the segments that are sealed.
  std::vector<uint32_t> SealedSegments() const;
};

// Threads: guarded by the store's lock.
struct Session {
  uint64_t id = 0;
  uint64_t key[2] = {0, 0};
  TenantRef tenant;
  KvGeometry geometry;
  ModelDigest model;
  std::string request_id;                    // for logs
  // Ids of the context's full segments, from the root, as far as they were
  // told: by the prompt, then by seals.
  std::vector<SegmentId> chain;
  // The context's first segments, as many, are named and kept in a sharing
  // domain; null: none is.
  TenantRef domain;
  size_t domain_segments = 0;
  bool may_add_to_domain = false;
  // Why it ended, while it is kept to tell; OK: it lives.
  absl::Status ended;
  // The same for requests under way.
  std::shared_ptr<std::atomic<bool>> revoked =
      std::make_shared<std::atomic<bool>>(false);
  bool scattered = false;  // other stores hold segments of this context too
  std::shared_ptr<const SegmentTable> segments;
  size_t open_segments = 0;                  // of the table
  Nanos last_used = 0;

  SessionSnapshot Snapshot() const {
    return {id, tenant, geometry, segments, revoked};
  }
  // Whose secret names segment `number`, and whose bytes it takes.
  const TenantRef& OwnerOf(size_t number) const {
    return number < domain_segments ? domain : tenant;
  }
  // Names the full segments of a prompt, from number `first` on.
  void NameSegments(std::span<const uint32_t> prompt, size_t first);
  // The last segment before `number` that is sealed here; the root's id when
  // there is none.
  SegmentId SealedBefore(size_t number) const;
  // Replaces one segment of the table, which grows as needed.
  void SetSegment(size_t number, SegmentRef ref);
};

// The sessions of one store.  Ids and keys are random: neither can be guessed.
//
// Threads: one at a time; its owner locks.
class Sessions {
 public:
  Sessions(size_t limit, Nanos idle_timeout,
           RandomSource random = FillRandom)
      : limit_(limit),
        idle_timeout_(idle_timeout),
        random_(std::move(random)) {}

  // Gives the session an id and a key.  kResourceExhausted at the limit.
  absl::StatusOr<Session*> Open(Nanos now, Session wanted = {});

  // The session, used now; null when there is none or it was idle too long.
  Session* Find(uint64_t id, Nanos now);

  // The session that was used last of those with this request's id; 0: none.
  uint64_t FindByRequest(const std::string& request_id) const;

  // Takes a session out; null when there is none.
  std::unique_ptr<Session> Remove(uint64_t id);
  // Takes out those that were idle too long.
  std::vector<std::unique_ptr<Session>> RemoveIdle(Nanos now);
  std::vector<std::unique_ptr<Session>> RemoveAll();
  void ForEach(const std::function<void(Session*)>& visit) {
    for (auto& [id, session] : sessions_) visit(session.get());
  }

  size_t size() const { return sessions_.size(); }
  Nanos idle_timeout() const { return idle_timeout_; }
  // Segments that are open, over all sessions.
  size_t OpenSegments() const;

 private:
  const size_t limit_;
  const Nanos idle_timeout_;
  const RandomSource random_;
  std::unordered_map<uint64_t, std::unique_ptr<Session>> sessions_;
};

// Compares in constant time.
bool SameKey(const uint64_t a[2], const uint64_t b[2]);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SESSION_H_
