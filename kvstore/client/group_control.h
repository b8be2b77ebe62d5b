// A worker's door to the control planes of several stores, and what brings
// back a store that was lost.
#ifndef FORECACHE_KVSTORE_CLIENT_GROUP_CONTROL_H_
#define FORECACHE_KVSTORE_CLIENT_GROUP_CONTROL_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/monotonic_cond.h"
#include "kvstore/client/control_client.h"
#include "kvstore/client/group_sessions.h"
#include "kvstore/client/lost_stores.h"

namespace forecache {

// How GroupControl reaches the data plane, which has a thread of its own.
struct GroupDataPlane {
  // Connects the member's data plane; blocks until it answered.
  std::function<absl::Status(int member, const StoreAddress& address)> connect;
  // The member is dead: its requests end now.
  std::function<void(int member, const absl::Status& why)> drop;
  // The next five of a store that is alone (DataClient's hold); all or none.
  // Blocks until what is kept of a session is there again.
  std::function<absl::Status(uint64_t session, const SessionHandle& now,
                             std::span<const uint32_t> held)>
      restore;
  std::function<void()> go_on;
  std::function<void(uint64_t session, const absl::Status& why)> fail_session;
  std::function<void(uint64_t session, int segments)> durable;
  std::function<void(uint64_t session)> forget;
  // Whom to tell of losses; null: nobody from now on.
  std::function<void(std::function<void(int member)>)> set_on_lost;
};

struct GroupControlCounters {
  uint64_t reconnects = 0;
  uint64_t sessions_resumed = 0;   // the store still had them
  uint64_t sessions_reopened = 0;  // it did not: what is lost there is absent
  uint64_t seals_skipped = 0;  // a segment's store could not: it stays private
};

// The calls are ControlClient's.  With one store they pass through; with more a
// session is opened at all of them, and a store that cannot takes no part.
//
// Threads: safe to call from any thread.  One thread of its own, `stores`,
// attaches lost members again, when LostStores says so.
// Lifetime: `sessions` and the data plane outlive it.
class GroupControl {
 public:
  GroupControl(const std::vector<std::string>& addresses,
               GroupSessions* sessions,
               const StoreCredentials& credentials = {});
  ~GroupControl();

  // Waits for all stores, attaches to them and connects their data planes.
  // An error when one of them does not answer.
  absl::Status Start(const std::string& worker_name, GroupDataPlane data_plane);

  absl::StatusOr<OpenedSession> OpenSession(
      const ModelFingerprint& model, std::span<const int32_t> prompt_tokens,
      const std::string& request_id, const SharedPrefix& shared = {});
  absl::Status CloseSession(const SessionHandle& session);
  // To be called when the context has grown by a block that starts a segment,
  // before the block is put.
  void Extend(const SessionHandle& session,
              std::span<const int32_t> context_tokens);
  // Seals segment `segment`, the last of `context_tokens`.  With several
  // stores, one that cannot seal it is logged and counted, and no error.
  absl::Status SealSegment(const SessionHandle& session, int segment,
                           std::span<const int32_t> context_tokens);

  // A member was lost, or lost a session: to be looked after soon.
  void Lost(int member);

  StoreAddress address(int member) const;
  GroupControlCounters counters() const;
  int members() const { return static_cast<int>(clients_.size()); }

 private:
  void Watch();
  absl::Status Rejoin(int member);
  void ResumeSessions(int member);

  // --- A store that is alone (group_control_alone.cc) ---
  absl::StatusOr<OpenedSession> OpenAlone(
      const ModelFingerprint& model, std::span<const int32_t> prompt_tokens,
      const std::string& request_id, const SharedPrefix& shared);
  absl::Status SealAlone(uint64_t session, int segment,
                         std::span<const int32_t> context_tokens);
  // Brings every session back as it was, and lets its requests go on.
  absl::Status ResumeAlone();
  absl::Status ResumeOneAlone(uint64_t session);
  // Until the store is back, or a moment has passed.
  void AwaitBack();

  GroupSessions* const sessions_;
  std::vector<std::unique_ptr<ControlClient>> clients_;
  std::string worker_name_;
  GroupDataPlane data_plane_;
  mutable absl::Mutex mutex_;
  MonotonicCond news_;  // changed_ or stopping_ was set
  LostStores lost_ ABSL_GUARDED_BY(mutex_);
  std::vector<StoreAddress> addresses_ ABSL_GUARDED_BY(mutex_);
  GroupControlCounters counters_ ABSL_GUARDED_BY(mutex_);
  bool changed_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_GROUP_CONTROL_H_
