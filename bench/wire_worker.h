// A worker as `bench wire` plays it: one transport, one thread.
#ifndef FORECACHE_BENCH_WIRE_WORKER_H_
#define FORECACHE_BENCH_WIRE_WORKER_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/cores.h"
#include "common/clock.h"
#include "common/rng.h"
#include "kvstore/client/group_control.h"
#include "kvstore/client/group_sessions.h"
#include "kvstore/client/store_group.h"
#include "transport/ucx_transport.h"

namespace forecache {

// A context that the stores hold.
struct WireContext {
  SessionHandle session;
  int blocks = 0;  // of each (layer, KV head)
};

// Blocks that arrive are copied into slots, as a worker's cache does it.
//
// Threads: one thread.
class WireWorker : private BlockSink {
 public:
  // `stores` are their control planes' addresses.
  static absl::StatusOr<std::unique_ptr<WireWorker>> Connect(
      const std::vector<std::string>& stores, const UcxOptions& options);
  WireWorker(const WireWorker&) = delete;
  WireWorker& operator=(const WireWorker&) = delete;

  // Puts and seals a context of random keys and values.
  absl::StatusOr<WireContext> Fill(const KvGeometry& geometry, int tokens);

  // `count` random blocks of one layer, of all KV heads, each with a slot.
  std::vector<wire::FetchEntry> RandomBlocks(const WireContext& context,
                                             size_t count);

  // Starts a fetch; `done` is called when all blocks are in their slots.
  absl::Status StartFetch(const WireContext& context, int layer,
                          const std::vector<wire::FetchEntry>& entries,
                          std::function<void()> done);
  // How long a fetch takes, from the call until its last block's arrival.
  absl::StatusOr<Nanos> TimeFetch(const WireContext& context, int layer,
                                  const std::vector<wire::FetchEntry>& entries);

  // Moves messages, without sleep, until `done`.  Returns what failed, be it a
  // request or a block; kDeadlineExceeded after a while.
  absl::Status RunUntil(const std::function<bool()>& done);
  // Remembers a failure for RunUntil.
  void Fail(const absl::Status& why) { failure_.Update(why); }

  StoreGroup& client() { return *client_; }
  BlockSink* sink() { return this; }
  Rng& rng() { return rng_; }
  std::string TransportName() const { return client_->TransportName(); }

 private:
  explicit WireWorker(const std::vector<std::string>& stores);
  absl::Status ConnectStore(int member, const StoreAddress& address);
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override;
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override;
  std::vector<std::byte> RandomPayload(const KvGeometry& geometry);
  absl::Status PutAll(const WireContext& context);

  GroupSessions sessions_;
  Rng rng_;
  std::vector<std::byte> slots_;
  std::vector<uint16_t> values_;  // that contexts are made of
  uint32_t next_slot_ = 0;
  absl::Status failure_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<StoreGroup> client_;  // ends before its transport
  GroupControl control_;                // ends before the data plane
};

// Fetches of random blocks, a number of them under way at any time.
//
// Threads: the worker's.
// Lifetime: worker and context outlive it; stop it and wait until it is idle
// before it goes.
class FetchStream {
 public:
  FetchStream(WireWorker* worker, const WireContext* context,
              size_t blocks_per_fetch, int window)
      : worker_(worker),
        context_(context),
        blocks_per_fetch_(blocks_per_fetch),
        window_(window) {}
  FetchStream(const FetchStream&) = delete;
  FetchStream& operator=(const FetchStream&) = delete;

  void Start();
  void Stop() { stopped_ = true; }
  bool idle() const { return under_way_ == 0; }
  WireWorker* worker() const { return worker_; }
  // K and V that arrived.
  uint64_t bytes() const { return bytes_; }

 private:
  void Next();

  WireWorker* const worker_;
  const WireContext* const context_;
  const size_t blocks_per_fetch_;
  const int window_;
  bool stopped_ = false;
  int under_way_ = 0;
  uint64_t bytes_ = 0;
};

// Runs streams at once for about `seconds`: bytes a second, all together.
absl::StatusOr<double> StreamRate(const std::vector<FetchStream*>& streams,
                                  double seconds);

// How many blocks a store packs into one message.
size_t BlocksOfOnePush(const KvGeometry& geometry);

}  // namespace forecache

#endif  // FORECACHE_BENCH_WIRE_WORKER_H_
