// A client of a store as `bench store` plays it.
#ifndef FORECACHE_BENCH_STORE_CLIENT_H_
#define FORECACHE_BENCH_STORE_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "common/rng.h"
#include "kvstore/client/control_client.h"
#include "kvstore/client/data_client.h"
#include "transport/ucx_transport.h"

namespace forecache {

// `count` tokens, and none of another seed's.
std::vector<int32_t> ContextTokens(uint64_t seed, int segments);

// A connection of its own, one session at a time.  Blocks that arrive are
// checked and copied into slots, as a worker's cache does it.
//
// Threads: one thread; Seal may be called by another meanwhile.
class StoreClient : private BlockSink {
 public:
  static absl::StatusOr<std::unique_ptr<StoreClient>> Connect(
      const std::string& address, const UcxOptions& options,
      const KvGeometry& geometry, const StoreCredentials& credentials = {});
  StoreClient(const StoreClient&) = delete;
  StoreClient& operator=(const StoreClient&) = delete;

  // Opens a session over whole segments.  Returns how many of them the store
  // holds.
  absl::StatusOr<int> Open(std::vector<int32_t> tokens);
  absl::Status Close();

  // The payload of put number `number`: see StartPut.  Different numbers have
  // different bytes.
  std::vector<std::byte> PackPut(int number, int blocks) const;
  // Put number `number` of those that put the whole context, `blocks` blocks of
  // one layer each.
  absl::Status StartPut(int number, int blocks, std::vector<std::byte> payload,
                        std::function<void()> done);
  int PutsOfContext(int blocks) const;
  // Fetches random blocks of one random layer.
  absl::Status StartGet(int blocks, std::function<void()> done);
  // From now on, fails when a block has not the bytes that PackPut gives it.
  void CheckBytes() { checks_bytes_ = true; }
  // Scores all of the context, in one random layer.
  absl::Status StartProbe(std::function<void()> done);
  // How many of the tokens' segments are held.
  absl::StatusOr<int> Lookup(const std::vector<int32_t>& tokens);

  // Seals the context's segments from `first` on, one after the other;
  // `durably`: each until it is on SSD, and fails when it is not.  Returns what
  // each took, in milliseconds.
  absl::StatusOr<std::vector<double>> Seal(int first, bool durably);
  // Puts and seals the context's segments from `first` on.
  absl::Status Fill(int first, bool durably);

  // Moves messages.  Returns what has failed, be it a request or a block.
  absl::Status Progress();
  // The same, and sleeps when there is nothing to move.
  absl::Status ProgressOrWait(Nanos timeout);
  absl::Status RunUntil(const std::function<bool()>& done);

  absl::StatusOr<StoreStats> Stats() { return control_.Stats(); }
  std::string TransportName() const { return data_->TransportName(); }
  int segments() const;

 private:
  StoreClient(const std::string& address, const KvGeometry& geometry,
              const StoreCredentials& credentials);
  ModelFingerprint Model() const;
  // Where a part of a block has its bytes from.
  const std::byte* PartOf(int layer, int block, bool value) const;
  DataClient::Done OnDone(std::function<void()> done);
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override;
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override;

  const KvGeometry geometry_;
  ControlClient control_;
  Rng rng_{7};
  bool checks_bytes_ = false;
  std::vector<std::byte> values_;  // that blocks are cut out of
  std::vector<std::byte> slots_;
  std::vector<float> query_;
  std::vector<wire::FetchEntry> entries_;
  uint32_t next_slot_ = 0;
  std::vector<int32_t> tokens_;
  SessionHandle session_;
  absl::Status failure_;
  std::unique_ptr<Transport> transport_;
  std::unique_ptr<DataClient> data_;  // ends before its transport
};

}  // namespace forecache

#endif  // FORECACHE_BENCH_STORE_CLIENT_H_
