// The store's end of the data plane: put, fetch and probe by messages.
#ifndef FORECACHE_KVSTORE_DATA_PLANE_H_
#define FORECACHE_KVSTORE_DATA_PLANE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/limits.h"
#include "kvstore/bounded_queue.h"
#include "kvstore/correction.h"
#include "kvstore/device_gathers.h"
#include "kvstore/peer_lines.h"
#include "kvstore/push_credit.h"
#include "kvstore/scan_pool.h"
#include "kvstore/send_buffers.h"
#include "kvstore/side_threads.h"
#include "kvstore/store.h"
#include "kvstore/tenant_turns.h"
#include "kvstore/tenants/hello_grants.h"
#include "kvstore/wire.h"
#include "transport/transport.h"

namespace forecache {

struct DataPlaneOptions {
  uint32_t epoch = 1;  // of the placement; messages of another are refused
  // More let more pushes be under way; each takes kPushBytesMax.
  int push_buffers = kPushBuffers;
  // Of them, those that one peer may have under way at once.
  int peer_push_buffers = kPeerPushBuffers;
  int queued_fetches = kQueuedFetchesMax;
  int queued_probes = kQueuedProbesMax;
  int queued_corrections = kQueuedCorrectionsMax;
  // Threads that scan KV heads.  0: the data plane's own, a head between two
  // looks at the network; best where cores are few.
  int scan_threads = 0;
  // Threads that read from SSD for pushes, beside one that waits for room for
  // puts.  0: the data plane's own does both, and all others wait with it.
  int ssd_threads = 0;
  // Payloads of puts that wait for room; of one tenant's, half of it.
  size_t waiting_put_bytes = kWaitingPutBytesMax;
};

// Puts are done as they arrive; those that have to wait for room, which others
// leave for SSD, do so on a thread of their own, as pushes of what is on SSD
// are packed on others; beyond a bound they are refused.  All else queues,
// since its answers need buffers; a full queue answers kResourceExhausted.
// Corrections are urgent: they go ahead of everything, with buffers of their
// own, and what one KV head lacks is sent while the next one is scanned.  Scans
// of probes and pushes of fetches take turns; tenants take turns with scans by
// their shares.  Tenants take turns with the pushes of their fetches by their
// shares of the bandwidth, and a tenant's peers among them (PeerLines), each
// with a quota of buffers, so that one whose sends stall does not hold up the
// others.
// A message that does not parse is counted and dropped, one that asks for
// nonsense is answered kError; a peer that goes on like that is cut off.  A
// peer is heard once its HELLO proved whose worker it is; then it may use that
// tenant's sessions.
//
// Threads: one, "dataplane", which owns the transport; Start, Stop, Invite,
// Uninvite, Address and TransportName from any other.
// Lifetime: the store outlives it.
class DataPlane : public MessageHandler {
 public:
  DataPlane(StoreCore* store, std::unique_ptr<Transport> transport,
            const DataPlaneOptions& options);
  ~DataPlane() override;

  void Start();
  void Stop();  // twice is fine

  // Moves messages and does some of the queued work.  Returns events; 0 means
  // idle.  For callers without Start().
  int RunOnce();

  // What a worker of `tenant` needs to be heard here, once and soon.
  absl::StatusOr<HelloGrant> Invite(TenantId tenant) {
    return hellos_.Give(tenant);
  }
  // The tenant was removed: what it was given is worth nothing any more.
  void Uninvite(TenantId tenant) { hellos_.Revoke(tenant); }

  const std::string& Address() const { return address_; }
  uint32_t epoch() const { return options_.epoch; }
  // Of the newest peer; "" before the first.
  std::string TransportName() const;

  // MessageHandler
  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override;
  void OnDisconnect(Endpoint* from, const absl::Status& why) override;

 private:
  // A fetch of which some entries still have to be pushed.
  struct QueuedFetch {
    Endpoint* from = nullptr;  // null: nobody wants it any more
    wire::WireHeader header;
    SessionSnapshot session;
    std::vector<wire::FetchEntry> entries;
    size_t next = 0;
    Nanos arrived = 0;
    int packed_buffer = -1;  // a push that the endpoint would not take yet
    PackedPush packed;
    int gather = -1;  // of gathers_, that packs into packed_buffer
  };
  // A put that waits for room.
  //
  // Threads: the data plane's, but until it has ended the put thread's.
  struct WaitingPut {
    Endpoint* from = nullptr;  // the data plane's; null: nobody wants to know
    TenantId tenant;
    wire::WireHeader header;
    wire::PutBlocksBody body;
    SessionSnapshot session;
    std::vector<std::byte> payload;
    absl::Status status;
    std::atomic<bool> ended{false};
  };
  // What has KV heads scanned, one after the other or several at once.
  struct QueuedScan {
    Endpoint* from = nullptr;  // null: nobody wants it any more
    wire::WireHeader header;
    SessionSnapshot session;
    int reply_buffer = -1;
    size_t reply_bytes = 0;
    double work = 0;     // of a head, for its tenant's share
    int head = 0;        // the next to submit
    int under_way = 0;   // heads that are scanned, or whose picks are pushed
    bool ended = false;  // it only waits to be the queue's front
  };
  struct QueuedProbe : QueuedScan {
    void SetRequest(ScanJob* job) const { job->probe = &request; }
    ProbeRequest request;  // a view of q
    std::vector<float> q;
    Nanos scanned = 0;  // time so far
  };
  struct QueuedCorrection : QueuedScan {
    void SetRequest(ScanJob* job) const { job->correction = &request; }
    std::vector<uint64_t> payload;  // words, since it views them
    CorrectionRequest request;      // views of payload
    Nanos arrived = 0;
  };
  // Messages of a peer that it had no business to send, of late.
  struct Faults {
    int count = 0;
    Nanos since = 0;
  };
  struct Peer {
    TenantId tenant;  // whose worker it is
    PushCredit credit;
  };

  void Loop();
  void Dispatch(Endpoint* from, const wire::Message& message);
  // The session that `message` is for; answers the peer when it may not.
  absl::StatusOr<SessionSnapshot> Admit(Endpoint* from,
                                        const wire::Message& message);
  void OnHello(Endpoint* from, const wire::Message& message);
  void OnPutBlocks(Endpoint* from, const wire::Message& message);
  // Whether one more of a tenant's puts may wait.
  bool MayDefer(TenantId tenant, size_t bytes) const;
  // Has a put done where it may wait.
  void DeferPut(Endpoint* from, const wire::Message& message,
                const wire::PutBlocksBody& body, SessionSnapshot session);
  void AnswerPut(Endpoint* to, const wire::WireHeader& request,
                 const absl::Status& status);
  // Answers deferred puts that have ended.  Returns events.
  int RunPuts();
  void OnFetch(Endpoint* from, const wire::Message& message);
  void OnProbe(Endpoint* from, const wire::Message& message);
  void OnCorrect(Endpoint* from, const wire::Message& message);
  void OnCancel(Endpoint* from, uint64_t request_id);
  void OnCredit(Endpoint* from, const wire::Message& message);

  // Corrections, and what has to be done for them between two looks at bulk.
  int RunUrgent();
  // Each moves its queue on as far as scan threads, or a piece of work on this
  // one, permit.  Returns events.
  int RunCorrections();
  int RunProbes();
  // Pushes a piece of a fetch.  False when nothing could be done.
  bool RunPush();
  // Those two.
  int RunBulk();
  // A push of a line's first fetch.
  bool PushNext(int line);

  // Of one head: what it reads and multiplies grows with all of them.
  static double ScanWork(const KvGeometry& geometry,
                         const ProbeRequest& request) {
    return double{1} * request.blocks * geometry.group * geometry.head_dim;
  }
  static void CancelScan(QueuedScan& scan, const Endpoint* from,
                         uint64_t request_id) {
    if (scan.from == from && scan.header.request_id == request_id) {
      scan.from = nullptr;
    }
  }
  // Whether there is nothing left but to answer.
  static bool IsScanned(const QueuedScan& scan);
  // What has a head to scan and whose turn it is; null when there is none.
  template <typename Scan>
  Scan* NextScan(BoundedQueue<Scan>& queue, const SendBuffers& replies);
  template <typename Scan>
  int SubmitScans(BoundedQueue<Scan>& queue, SendBuffers* replies,
                  bool urgent);
  template <typename Scan>
  static void PopEnded(BoundedQueue<Scan>& queue);
  // Takes heads that were scanned, and pushes what they lack.
  int TakeScanned();
  int PushScanned();
  // kResourceExhausted: not now.
  absl::Status PushPicks(QueuedCorrection& correction, ScanJob* job);
  // What is common to all pushes.  `buffer` is the send's until `done` when
  // the status is OK.
  absl::Status SendPush(Endpoint* to, const wire::WireHeader& request,
                        const PackedPush& push, bool is_last, ByteView buffer,
                        Endpoint::Done done);
  // As SendPush, but packs the first of `entries` where the peer reads them.
  // `may_end`: the push that takes all of them is the last.  False when there
  // is no such place now.
  bool PushInPlace(Endpoint* to, const wire::WireHeader& request,
                   const SessionSnapshot& session,
                   std::span<const wire::FetchEntry> entries, bool may_end,
                   PackedPush* packed);
  wire::PackedHeader PushHeader(Endpoint* to, const wire::WireHeader& request,
                                const PackedPush& push, bool is_last,
                                ByteView payload) const;
  // Whether the peer takes a push of so many entries now.
  bool TakesPush(Endpoint* to, const KvGeometry& geometry, size_t entries,
                 bool urgent);
  // A push of a line's first fetch is on its way.
  void EndPush(int line);
  int TakePushBuffer(int line);
  void ReturnPushBuffer(int buffer);
  absl::Status SendProbeReply(const QueuedProbe& probe);
  absl::Status SendCorrectReply(const QueuedCorrection& correction);
  void EndFetch(int line);
  void EndProbe(QueuedProbe& probe);
  void EndCorrection(QueuedCorrection& correction);

  // Answers without a payload.  One that cannot be sent is left to the peer's
  // deadline.
  void Answer(Endpoint* to, const wire::WireHeader& request,
              wire::MessageType type);
  void Refuse(Endpoint* to, const wire::WireHeader& request,
              const absl::Status& why, Counter* counter);
  // Sends kError.
  void AnswerError(Endpoint* to, const wire::WireHeader& request,
                   const absl::Status& why);
  // May close the endpoint: then it is invalid afterwards.
  void CountFault(Endpoint* from);
  // Lets go of what is queued for a peer.
  void Forget(Endpoint* from);

  StoreCore* const store_;
  const DataPlaneOptions options_;
  StoreMetrics& metrics_;
  SendBuffers push_buffers_;
  SendBuffers probe_buffers_;
  SendBuffers correction_buffers_;
  SendBuffers correction_replies_;
  SendBuffers error_buffers_;
  Gatherer gatherer_;
  PeerLines<Endpoint, QueuedFetch> fetches_;
  std::vector<int> push_lines_;  // of fetches_, by push buffer
  std::deque<std::unique_ptr<WaitingPut>> puts_;  // as they are worked off
  size_t waiting_put_bytes_ = 0;                   // theirs
  std::unordered_map<TenantId, size_t> tenant_put_bytes_;  // the same, by whose
  BoundedQueue<QueuedProbe> probes_;
  BoundedQueue<QueuedCorrection> corrections_;
  TenantTurns turns_;              // of scans
  bool is_push_turn_ = false;      // the last piece of bulk was a scan
  std::vector<ScanJob*> pushing_;  // of corrections, scanned
  size_t queued_bytes_ = 0;
  std::unordered_map<Endpoint*, Faults> faults_;
  HelloGrants hellos_;
  // Those whose HELLO was taken.
  std::unordered_map<Endpoint*, Peer> peers_;
  // After the buffers: it gives them back while it closes.
  std::unique_ptr<Transport> transport_;
  // After all that scans read and write, and the transport that they wake.
  std::unique_ptr<ScanPool> scans_;
  std::unique_ptr<DeviceGathers> gathers_;
  std::unique_ptr<SideThreads> put_thread_;
  const std::string address_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
  mutable absl::Mutex mu_;
  std::string transport_name_ ABSL_GUARDED_BY(mu_);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_DATA_PLANE_H_
