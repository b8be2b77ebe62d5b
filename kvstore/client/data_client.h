// A worker's door to one store's data plane: put, fetch, probe and correct.
//
// Everything is asynchronous.  Answers arrive inside Progress(), as calls on
// the callbacks given with the request; each request ends exactly once, at the
// latest at its deadline (kDeadlineExceeded).
#ifndef FORECACHE_KVSTORE_CLIENT_DATA_CLIENT_H_
#define FORECACHE_KVSTORE_CLIENT_DATA_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "common/clock.h"
#include "kvstore/geometry.h"
#include "kvstore/hello.h"
#include "kvstore/wire.h"
#include "transport/transport.h"

namespace forecache {

// Where a store's data plane is, and what opens it: from ControlClient::Attach.
//
// Threads: a value.
struct StoreAddress {
  std::string store_id;
  std::string data_plane;
  uint32_t epoch = 0;
  HelloGrant grant;  // for one Connect, soon
  // Its segments outlive it once they are durable, so it may come back.
  bool durable = false;
};

// A session as the data plane sees it: from ControlClient::OpenSession.
struct SessionHandle {
  uint64_t id = 0;
  uint64_t key[2] = {0, 0};
  KvGeometry geometry;
};

// Takes the blocks of a fetch.
//
// Threads: called on the client's thread, inside Progress() or Cancel().
class BlockSink {
 public:
  virtual ~BlockSink() = default;
  // A block whose checksums match its bytes.  The views end with the call.
  virtual void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
                       ByteView v) = 0;
  // A block that will not come: kDataLoss (refused by the store, or damaged on
  // the way), kNotFound, kDeadlineExceeded, kUnavailable.
  virtual void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                             const absl::Status& why) = 0;
};

// What a probe found.  The views end with the call.
struct ProbeResult {
  int layer = 0;
  int blocks = 0;
  std::span<const float> lse;              // [kv_heads][group]
  std::span<const uint16_t> log_probability;  // f16 [kv_heads][group][blocks]
};

// What a correction asks for: see wire::CorrectBody.  The spans are copied.
//
// Threads: a value.
struct CorrectRequest {
  int layer = 0;
  int blocks = 0;  // scores [0, blocks)
  float scale = 0;
  std::span<const float> q;  // [kv_heads][group][head_dim], unscaled
  // Log-sum-exp of the logits that the worker scored itself, [kv_heads][group];
  // empty: there are none.
  std::span<const float> local_lse;
  // Blocks [first, end) may be pushed, those of at least `threshold` merged
  // probability.
  int first = 0;
  int end = 0;
  float threshold = 0;
  bool wants_scores = false;
  bool wants_tail = false;
  // What is there already, [kv_heads][wire::ResidentWords(blocks)]: bit b % 64
  // of word b / 64 is block b.
  std::span<const uint64_t> resident;
  // Places for what is pushed: slot_count[h] of head h, one head's after the
  // other's, at most kCorrectionSlotsMax a head.  No two are equal.
  std::span<const uint32_t> slot_count;  // [kv_heads]
  std::span<const wire::OfferedSlot> slots;
};

// Attention near the data over what is neither resident nor pushed: see
// wire::CorrectReplyBody.
//
// Threads: a value.
struct TailView {
  std::span<const float> lse;       // [kv_heads][group]
  std::span<const uint16_t> key;    // f16 [kv_heads][group][head_dim]
  std::span<const uint16_t> value;  // the same
  bool empty() const { return lse.empty(); }
};

// What a correction found.  The views end with the call.
struct CorrectResult {
  int layer = 0;
  int blocks = 0;
  std::span<const wire::CorrectedHead> heads;  // [kv_heads]
  // As in ProbeResult: of the store's keys alone.
  std::span<const float> lse;
  std::span<const uint16_t> log_probability;  // empty unless asked for
  TailView tail;                              // empty unless asked for
};

// Takes what a correction brings.
//
// Threads: as BlockSink.
class CorrectSink {
 public:
  virtual ~CorrectSink() = default;
  // A block whose checksums match its bytes, for a slot that was offered; it is
  // of the range and was not resident.  The views end with the call.
  virtual void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
                       ByteView v) = 0;
  // A slot that no block comes for: OK when none was worth it, or why the one
  // that was chosen does not come (as BlockSink::OnBlockFailed).
  virtual void OnSlotReturned(int layer, int kv_head,
                              const wire::OfferedSlot& slot,
                              const absl::Status& why) = 0;
  // The store's reply, at most once, before or after the blocks.
  virtual void OnCorrected(const CorrectResult& result) = 0;
};

struct DataClientCounters {
  uint64_t blocks_put = 0;
  uint64_t blocks_received = 0;
  uint64_t bytes_received = 0;  // K and V parts of those blocks
  uint64_t wire_bytes_sent = 0;      // headers and payloads
  uint64_t wire_bytes_received = 0;
  uint64_t probes = 0;
  uint64_t corrections = 0;
  uint64_t blocks_refused = 0;  // failed with kDataLoss, here or at the store
  uint64_t requests_timed_out = 0;
  // Answers that nobody waits for any more, and entries of pushes that had
  // been answered: after a Cancel or a deadline, or doubled on the way.
  uint64_t answers_late = 0;
  uint64_t messages_refused = 0;  // unparseable, damaged, or of no request ever
  uint64_t blocks_restored = 0;   // put again to a store that came back
  uint64_t kept_bytes = 0;        // of puts that are not durable, now
};

// Every call returns kResourceExhausted when kRequestsInFlightMax requests are
// under way, kUnavailable without a connection, and kInvalidArgument for a
// field outside its limit; then no callback is called.
//
// Callbacks may start and cancel requests, but must not destroy the client.
//
// Threads: one thread, the transport's.
// Lifetime: the transport and clock outlive it; it is the transport's handler.
// Destroying it closes the connection and calls no callbacks; the transport
// must make no progress afterwards.
class DataClient : public MessageHandler {
 public:
  using Done = std::function<void(const absl::Status&)>;
  using ProbeDone =
      std::function<void(const absl::StatusOr<ProbeResult>& result)>;

  DataClient(Transport* transport, Clock* clock);
  ~DataClient() override;

  // Connects to a store and says hello; `done` tells whether it answered, with
  // kDeadlineExceeded after kConnectTimeout, with kFailedPrecondition when it
  // has another wire version or epoch, and with kUnauthenticated when it does
  // not take the grant (any more).  A connection that is there is closed
  // first; its requests end with kUnavailable, but for a hold.
  absl::Status Connect(const StoreAddress& store, Done done);

  // Puts whole blocks [first_block, first_block + block_count) of one layer.
  // `payload` as in wire::PutBlocksBody, moved in and kept until `done`.
  // OK in `done` means that the store holds the blocks.
  absl::Status PutBlocks(const SessionHandle& session, int layer,
                         int first_block, int block_count,
                         std::vector<std::byte> payload, Done done);

  // Asks for blocks of one layer, whatever layer the entries name.
  // `sink` hears of every entry exactly once, then `done`:
  // OK means that each entry was answered, not that each block came.
  // Returns the request's id, for Cancel.
  // REQUIRES: no two entries are equal.
  absl::StatusOr<uint64_t> Fetch(const SessionHandle& session, int layer,
                                 std::span<const wire::FetchEntry> entries,
                                 BlockSink* sink, Done done);
  // The same for blocks of many layers, a whole token's say, in one request:
  // each entry names its layer.
  absl::StatusOr<uint64_t> FetchLayers(
      const SessionHandle& session, std::span<const wire::FetchEntry> entries,
      BlockSink* sink, Done done);

  // Scores blocks [0, blocks) of one layer for `q` [kv_heads][group][head_dim].
  // Returns the request's id, for Cancel.
  absl::StatusOr<uint64_t> Probe(const SessionHandle& session, int layer,
                                 int blocks, float scale,
                                 std::span<const float> q, ProbeDone done);

  // Probes and fetches in one trip: the store scores the blocks and pushes the
  // best of the missing ones at once, ahead of everything else.  `sink` hears
  // of every offered slot exactly once, filled or returned, and of the reply;
  // then `done`.  Returns the request's id, for Cancel.
  absl::StatusOr<uint64_t> Correct(const SessionHandle& session,
                                   const CorrectRequest& correction,
                                   CorrectSink* sink, Done done);

  // Forgets a fetch, probe or correction that is under way: what arrives of it
  // later is dropped.  Its sink and `done` hear kCancelled inside this call.
  void Cancel(uint64_t request_id);

  // --- A store that dies and returns (data_client_hold.cc) ---
  //
  // With a hold, a lost connection fails no request: what is under way and what
  // comes waits, for `hold` from the loss on, until GoOn sends it again.  Then
  // it fails with kUnavailable.  And where a store is durable, blocks that it
  // acknowledged are kept until Durable says that their segment is on its SSD,
  // kKeptPutBytesMax of them, so that Restore can put them again.
  void SetHold(Nanos hold);
  bool IsHolding() const;
  // After Connect, while holding: from now on `session` means `now`.  Puts
  // again what is kept of its segments that are not in `held`; `done` tells
  // when the store has all of it, or why not.
  void Restore(uint64_t session, const SessionHandle& now,
               std::span<const uint32_t> held, Done done);
  // Sends what waits.
  void GoOn();
  // Ends what waits of a session that cannot go on.
  void FailSession(uint64_t session, const absl::Status& why);
  // Segments [0, segments) of the session are durable.
  void Durable(uint64_t session, int segments);
  // The session was closed: nothing of it is kept.
  void Forget(uint64_t session);

  // Moves messages and ends what is past its deadline.  Returns events.
  int Progress();
  // Sleeps until something happens, a deadline passes or `timeout` is over.
  void Wait(Nanos timeout);

  int requests_in_flight() const;
  const DataClientCounters& counters() const;
  std::string TransportName() const;  // "" before Connect

  // MessageHandler
  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override;
  void OnDisconnect(Endpoint* from, const absl::Status& why) override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// Builds a PUT_BLOCKS payload.  `k` and `v` give the start of the K and V part
// of (kv_head, block), for block in [0, block_count).
std::vector<std::byte> PackPutPayload(
    const KvGeometry& geometry, int block_count,
    const std::function<const std::byte*(int kv_head, int block)>& k,
    const std::function<const std::byte*(int kv_head, int block)>& v);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_DATA_CLIENT_H_
