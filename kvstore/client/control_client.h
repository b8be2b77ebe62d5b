// A worker's door to a store's control plane (gRPC).
#ifndef FORECACHE_KVSTORE_CLIENT_CONTROL_CLIENT_H_
#define FORECACHE_KVSTORE_CLIENT_CONTROL_CLIENT_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kvstore/client/data_client.h"
#include "kvstore/client/store_credentials.h"
#include "kvstore/geometry.h"

namespace forecache {

// Whose KV it is: see ModelIdentity in proto/store.proto.
struct ModelFingerprint {
  std::string weights_digest;
  std::string architecture;
  KvGeometry geometry;
  float rope_base = 0;
};

// The first tokens of a prompt that lie in a sharing domain: see
// OpenSessionRequest in proto/store.proto.  Without a name: none.
//
// Threads: a value.
struct SharedPrefix {
  std::string domain;
  int tokens = 0;
};

struct OpenedSession {
  SessionHandle handle;
  int cached_tokens = 0;  // a multiple of 256, less than the prompt
  std::vector<uint32_t> held_segments;  // those that the store holds sealed
  bool resumed = false;  // it is the session of before
};

struct StoreStats {  // see StatsReply in proto/store.proto
  std::string store_id;
  uint64_t sessions = 0, segments = 0, open_segments = 0;
  uint64_t dram_bytes = 0, dram_capacity_bytes = 0;
  uint64_t blocks_put = 0, blocks_pushed = 0, bytes_pushed = 0;
  uint64_t probes = 0, probe_key_bytes = 0, blocks_refused = 0;
  uint64_t segments_evicted = 0, segments_dropped = 0;
  uint64_t prefix_lookups = 0, prefix_tokens_asked = 0, prefix_tokens_hit = 0;
  uint64_t dram_segments = 0, ssd_segments = 0;  // those in both in both
  uint64_t ssd_bytes = 0, ssd_queued_segments = 0;
  uint64_t prefix_tokens_hit_ssd = 0;
  std::string transport, isa;
};

// Every call blocks, for at most its deadline (kRpcTimeout in limits.h), and
// returns the server's status; kUnavailable names the address when nobody
// answers.
//
// Threads: safe to call from any thread.
class ControlClient {
 public:
  // "host:port", and what is shown there.  Without credentials: in the clear,
  // as whoever the store takes for that.
  explicit ControlClient(const std::string& address,
                         const StoreCredentials& credentials = {});
  ~ControlClient();

  absl::StatusOr<StoreAddress> Attach(const std::string& worker_name);
  absl::StatusOr<OpenedSession> OpenSession(
      const ModelFingerprint& model, std::span<const int32_t> prompt_tokens,
      const std::string& request_id, const SharedPrefix& shared = {});
  // The same at one of several stores that share the context: what is not here
  // is no gap.  Gives `before` back when the store still has that session; a
  // handle without an id asks for none.
  absl::StatusOr<OpenedSession> OpenScattered(
      const ModelFingerprint& model, std::span<const int32_t> prompt_tokens,
      const std::string& request_id, const SessionHandle& before,
      const SharedPrefix& shared = {});
  absl::Status CloseSession(const SessionHandle& session);
  absl::StatusOr<int> LookupPrefix(const ModelFingerprint& model,
                                   std::span<const int32_t> prompt_tokens);
  // `tokens` ends with the segment's; before them come those of segments right
  // before it that the store was not told.
  absl::Status SealSegment(const SessionHandle& session, int segment,
                           std::span<const int32_t> tokens);
  // The same, and waits until the segment is on SSD, 4 s at most: whether it
  // is.  Without an SSD tier it never is.
  absl::StatusOr<bool> SealDurably(const SessionHandle& session, int segment,
                                   std::span<const int32_t> tokens);
  absl::StatusOr<StoreStats> Stats();
  // Whether the store answers at all, within `timeout_ms`.
  absl::Status WaitReady(int timeout_ms);

  const std::string& address() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_CONTROL_CLIENT_H_
