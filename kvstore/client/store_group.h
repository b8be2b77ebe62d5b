// A worker's door to the data planes of several stores, as if they were one.
//
// The calls are DataClient's.  A context's segments lie at several members
// (group_sessions.h): puts and fetches are split by segment, probes go to all
// who have a part and their scores are merged.  A member that does not answer
// costs its blocks, not the call: its blocks fail with kUnavailable or
// kDeadlineExceeded, a merged probe goes on without it, and new blocks are put
// elsewhere.  With one member a call is a DataClient's, and so are its errors.
#ifndef FORECACHE_KVSTORE_CLIENT_STORE_GROUP_H_
#define FORECACHE_KVSTORE_CLIENT_STORE_GROUP_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "kvstore/client/data_client.h"
#include "kvstore/client/group_sessions.h"

namespace forecache {

struct StoreGroupCounters {
  uint64_t blocks_unavailable = 0;  // asked for, and their store was not there
  uint64_t probes_partial = 0;  // and corrections, without one of the members
  uint64_t puts_moved = 0;          // to another store than their own
  uint64_t stores_lost = 0;         // connections lost, or silent too long
};

// How long a probe of `blocks` waits for a member.
Nanos ProbeShardWait(const KvGeometry& geometry, int blocks);

// Threads: one thread, the transport's.
// Lifetime: transport, clock and sessions outlive it; callbacks as DataClient.
class StoreGroup {
 public:
  using Done = DataClient::Done;
  using ProbeDone = DataClient::ProbeDone;

  StoreGroup(Transport* transport, Clock* clock, GroupSessions* sessions);
  ~StoreGroup();

  // See DataClient::Connect.
  absl::Status Connect(int member, const StoreAddress& store, Done done);
  // The control plane found the member dead: its requests end now.
  void Drop(int member, const absl::Status& why);
  // Told on each loss of a connection, and of each member that has owed
  // answers for kStoreSilence and sent nothing, until it is heard again.
  void SetOnLost(std::function<void(int member)> on_lost);
  // Connected, and not silent.
  bool IsUp(int member) const;
  bool IsConnected(int member) const;

  // OK in `done` means that a store holds the blocks.  What its own store does
  // not take goes to the next of the segment's rank.
  absl::Status PutBlocks(const SessionHandle& session, int layer,
                         int first_block, int block_count,
                         std::vector<std::byte> payload, Done done);

  // `done` is OK although members failed: their entries have failed each.
  absl::StatusOr<uint64_t> Fetch(const SessionHandle& session, int layer,
                                 std::span<const wire::FetchEntry> entries,
                                 BlockSink* sink, Done done);

  absl::StatusOr<uint64_t> FetchLayers(
      const SessionHandle& session, std::span<const wire::FetchEntry> entries,
      BlockSink* sink, Done done);

  // Blocks of members that do not answer within ProbeShardWait have no score,
  // like blocks that no store holds.  Fails when no member is up.
  absl::StatusOr<uint64_t> Probe(const SessionHandle& session, int layer,
                                 int blocks, float scale,
                                 std::span<const float> q, ProbeDone done);

  // The slots are shared out among the members, who push for their shares at
  // once; see store_group_correct.cc.  The merged reply has the sum of the
  // `used`, which are not the first of the slots any more, and of the other
  // figures the largest.  kUnavailable when nobody who has a part is up.
  absl::StatusOr<uint64_t> Correct(const SessionHandle& session,
                                   const CorrectRequest& correction,
                                   CorrectSink* sink, Done done);

  void Cancel(uint64_t request_id);

  // A store that is alone and dies costs an answer time, not its end: calls
  // wait for kStoreRecovery, as DataClient's hold says.  With several the
  // others serve.
  DataClient* lone() { return members() == 1 ? client(0) : nullptr; }
  // Whether calls wait for a store that is alone.
  bool IsHolding();

  int Progress();
  void Wait(Nanos timeout);

  int requests_in_flight() const;
  DataClientCounters counters() const;  // of all members
  const StoreGroupCounters& group_counters() const;
  std::string TransportName() const;  // of the first member that is connected
  int members() const;

 private:
  DataClient* client(int member);

  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_STORE_GROUP_H_
