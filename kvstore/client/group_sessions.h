// Where the segments of contexts lie that several stores share.
#ifndef FORECACHE_KVSTORE_CLIENT_GROUP_SESSIONS_H_
#define FORECACHE_KVSTORE_CLIENT_GROUP_SESSIONS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "kvstore/client/control_client.h"
#include "kvstore/placement.h"

namespace forecache {

// One place of a segment.
//
// Threads: a value.
struct SegmentPlace {
  int member = -1;  // -1: nowhere
  SessionHandle handle;  // of the context at that member
  bool held = false;  // sealed there before this context came to it
};

// The part of a context that one member has.
//
// Threads: a value.
struct MemberPart {
  int member = 0;
  SessionHandle handle;
  std::vector<int> segments;  // ascending
};

// What a member is told to give a context back, or to take it anew.
//
// Threads: a value.
struct ReopenArguments {
  ModelFingerprint model;
  std::vector<int32_t> tokens;
  std::string request_id;
  SessionHandle before;
  SharedPrefix shared;
};

// A segment lies where a member said at the start that it holds it, or else
// where it was put: at the first living member of its rank (kvstore/
// placement.h).  A handle of the group names a session at each member; of a
// store that is alone it is the first one that the store gave.
//
// Threads: safe to call from any thread.
class GroupSessions {
 public:
  explicit GroupSessions(MemberList members);

  // A context over `prompt`; opened[m] is what member m said, if it did.
  // REQUIRES: one entry a member.
  OpenedSession Open(const ModelFingerprint& model,
                     std::span<const int32_t> prompt,
                     const std::string& request_id,
                     std::span<const std::optional<OpenedSession>> opened,
                     const SharedPrefix& shared = {});
  // Forgets it; returns the members' handles, id 0 where there is none.
  std::vector<SessionHandle> Close(uint64_t id);
  // The context has grown to `tokens`: a segment may be put from the moment
  // that its first block's tokens were told.
  void Extend(uint64_t id, std::span<const int32_t> tokens);

  // Where a segment lies.
  SegmentPlace Find(uint64_t id, int segment) const;
  // The same; one that is nowhere is given a place at a living member whose
  // bit in `avoid` is not set.
  SegmentPlace Choose(uint64_t id, int segment, uint64_t avoid);
  // The member failed the segment: it has no place any more if it was there.
  void Leave(uint64_t id, int segment, int member);
  // Who has what of blocks [0, blocks).
  std::vector<MemberPart> Parts(uint64_t id, int blocks) const;

  void SetAlive(int member, bool alive);
  bool IsAlive(int member) const;

  // What the member calls the session now; id 0: it has none.
  SessionHandle HandleAt(uint64_t id, int member) const;
  // How many leading segments were sealed, and how many of them are durable.
  struct Progress {
    int sealed = 0;
    int durable = 0;
  };
  Progress SealedOf(uint64_t id) const;
  void SetSealed(uint64_t id, Progress progress);

  // The first segment whose tokens the member was not told.
  int Untold(uint64_t id, int member) const;
  void SetTold(uint64_t id, int member, int segments);

  // After a member was lost and came back.
  std::vector<uint64_t> Ids() const;
  std::optional<ReopenArguments> ReopenAt(uint64_t id, int member) const;
  // False when the context ended meanwhile: then the session is the caller's
  // to close.
  bool Rejoin(uint64_t id, int member, const OpenedSession& opened);

  int members() const { return placement_.size(); }

 private:
  struct Context {
    ModelFingerprint model;
    std::string request_id;
    SharedPrefix shared;
    std::vector<int32_t> tokens;
    std::vector<uint64_t> keys;          // of segments, for placement
    std::vector<int> homes;              // member by segment, -1: nowhere
    std::vector<bool> held;              // by segment
    std::vector<SessionHandle> handles;  // by member
    std::vector<int> told;               // by member
    Progress sealed;
  };
  const Context* FindContext(uint64_t id) const
      ABSL_SHARED_LOCKS_REQUIRED(mutex_);
  SegmentPlace PlaceOf(const Context& context, int segment) const;

  const Placement placement_;
  mutable absl::Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::vector<bool> alive_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, Context> contexts_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_GROUP_SESSIONS_H_
