// Private to store_group*.cc.
#ifndef FORECACHE_KVSTORE_CLIENT_STORE_GROUP_IMPL_H_
#define FORECACHE_KVSTORE_CLIENT_STORE_GROUP_IMPL_H_

#include <deque>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/limits.h"
#include "kvstore/client/probe_merge.h"
#include "kvstore/client/shared_transport.h"
#include "kvstore/client/store_group.h"

namespace forecache {

// Threads: as StoreGroup.
struct StoreGroup::Impl {
  Impl(Transport* transport, Clock* clock, GroupSessions* sessions);
  ~Impl();

  struct Member {
    std::unique_ptr<DataClient> client;
    bool connected = false;
    bool silent = false;       // owes answers for kStoreSilence
    bool lagging = false;      // let a probe pass kProbeShardWait
    int probes_owed = 0;
    Nanos heard = 0;           // or nothing was owed
  };

  // A put, until all its segments are held by a store.
  struct Put {
    uint64_t session = 0;
    KvGeometry geometry;
    int layer = 0, first = 0, count = 0;
    std::vector<std::byte> payload;  // kept: a segment may be put again
    int pending = 0;  // segments
    absl::Status status;
    Done done;
  };
  // What one member was asked for of a fetch or correction.
  struct Part {
    virtual ~Part() = default;
    // Tells the sink of everything that the part was to bring.
    virtual void FailAll(const absl::Status& why) = 0;
    // What the sink hears when the member says `why`: that it is not there,
    // unless it is the block's own fault.
    absl::Status Told(const absl::Status& why);

    Impl* impl = nullptr;
    int member = -1;
    uint64_t request = 0;  // 0: the member was not asked
    bool ended = false;
    absl::Status given_up;  // why, when the group itself ended it
  };
  struct FetchPart;
  struct CorrectPart;
  // A fetch or a correction, until all its parts have ended.
  struct Call {
    virtual ~Call() = default;
    // All parts have ended; `done` is called next.
    virtual void Finish() {}

    uint64_t id = 0;
    std::vector<std::unique_ptr<Part>> parts;
    int pending = 0;
    absl::Status status;
    Done done;
  };
  struct CorrectCall;
  // A probe, until all members answered or it has waited for long enough.
  struct ProbeCall {
    uint64_t id = 0;
    ProbeMerge merge;
    Nanos deadline = 0;
    std::vector<int> waits_for;  // members
    std::vector<std::pair<int, uint64_t>> requests;  // of members
    bool partial = false;
    ProbeDone done;
  };

  bool IsUp(int m) const { return members[m].connected && !members[m].silent; }
  bool AnyUp() const;
  // The error with which a member's blocks fail.
  absl::Status Unavailable(int member) const;
  void Lost(int member);
  void NotifyLost(int member);
  // Ends the parts of calls that wait for the member.
  void GiveUpParts(int member);
  void CheckMembers();
  int RunDeferred();

  // Puts what the put has of a segment; `tried` has a bit for each member that
  // failed it.
  void PutSegment(std::shared_ptr<Put> put, int segment, uint64_t tried);
  void PutEnded(std::shared_ptr<Put> put, int segment, int member,
                uint64_t tried, const absl::Status& end);
  void EndSegment(Put* put, const absl::Status& end);
  // Registers a call, whose parts follow.
  void AddCall(std::unique_ptr<Call> call);
  // `request` is what the member's client said to the part, or why it was not
  // asked: then the sink hears of it in the next Progress.
  void PartStarted(Call* call, std::unique_ptr<Part> part,
                   const absl::StatusOr<uint64_t>& request);
  void PartEnded(uint64_t id, Part* part, const absl::Status& end);
  void OnScores(std::shared_ptr<ProbeCall> call, const MemberPart& part,
                const absl::StatusOr<ProbeResult>& result);
  void FinishProbe(ProbeCall* call);
  void CancelProbe(uint64_t id);
  int EndLateProbes();

  Clock* const clock;
  GroupSessions* const sessions;
  SharedTransport shared;
  std::vector<Member> members;
  std::function<void(int)> on_lost;
  Nanos next_check = 0;
  uint64_t next_id = 1;
  std::unordered_map<uint64_t, std::unique_ptr<Call>> calls;
  std::deque<std::shared_ptr<ProbeCall>> probes;  // by deadline
  std::vector<std::function<void()>> deferred;    // for the next Progress
  StoreGroupCounters counters;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_STORE_GROUP_IMPL_H_
