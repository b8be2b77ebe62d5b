// One request's context: prefilled once, then decoded token by token, with its
// KV in the store and a bounded part of it here.
#ifndef FORECACHE_WORKER_SESSION_H_
#define FORECACHE_WORKER_SESSION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kvstore/client/group_control.h"
#include "worker/model/model_runtime.h"
#include "worker/prefetcher.h"
#include "worker/prefill_stream.h"
#include "worker/query_estimates.h"
#include "worker/resident_cache.h"
#include "worker/session_fault.h"
#include "worker/work_crew.h"
#include "worker/write_behind.h"

namespace forecache {

// What every session of a worker shares.  All outlive the sessions; one
// session at a time uses them.
//
// Threads: a value.
struct WorkerParts {
  ModelRuntime* model = nullptr;
  GroupControl* control = nullptr;
  DataPlaneThread* data_plane = nullptr;
  DeviceArena* arena = nullptr;
  DeviceArena* staging = nullptr;
  WorkCrew* crew = nullptr;
  ModelFingerprint fingerprint;

  const KvGeometry& geometry() const { return fingerprint.geometry; }
};

struct SessionOptions {
  std::string request_id;
  SharedPrefix shared;
  PrefetchOptions prefetch;
  std::string predictor = "last";
  float ema_alpha = 0.3f;
  float probe_share = 0;  // above 0: probes are adaptive, at most this share
  bool profiled_budget = false;  // shared out by the model's profile
};

// Bytes of one context in the worker.
struct SessionMemory {
  size_t resident = 0;  // slots, the most it held
  size_t history = 0;
  size_t tail = 0;
  size_t tables = 0;
};

// Threads: one thread at a time, the decode thread.
class Session {
 public:
  using Progress = std::function<void(int done, int total, int cached)>;

  // Opens the session at the store.  kInvalidArgument and kResourceExhausted
  // name the field and its limit; kUnavailable: the store does not answer.
  static absl::StatusOr<std::unique_ptr<Session>> Open(
      const WorkerParts& parts, const SessionOptions& options,
      std::vector<int32_t> prompt, int max_tokens);
  ~Session();

  // Computes what of the prompt the store does not have, and loads the first
  // resident blocks.  Returns the logits of the prompt's last token.
  absl::StatusOr<std::span<const float>> Prefill(const Progress& progress);

  // Appends `token` to the context; returns the logits of what follows it.
  absl::StatusOr<std::span<const float>> Decode(int32_t token);

  int cached_tokens() const { return opened_.cached_tokens; }
  int context_tokens() const { return static_cast<int>(tokens_.size()); }
  PrefetchCounters counters() const { return prefetcher_->counters(); }
  SessionMemory memory() const;
  // What PrefetchOptions::auto_missed made exact: layers of tokens, and tokens
  // with such layers.
  uint64_t exact_layers() const { return exact_layers_; }
  uint64_t exact_tokens() const { return exact_tokens_; }
  // Resident blocks whose bytes are not the ones the store sent.
  int Audit() const { return cache_.Audit(); }

 private:
  Session(const WorkerParts& parts, const SessionOptions& options,
          std::vector<int32_t> prompt, const OpenedSession& opened,
          std::unique_ptr<Predictor> predictor);

  absl::StatusOr<std::span<const float>> PrefillChunk(int position, int n);
  absl::StatusOr<std::span<const float>> AttendChunk(int layer, int position,
                                                     int n,
                                                     const LayerQkv& qkv);
  void ShowPromptKeys(int layer);
  absl::Status LoadFirstBlocks();
  absl::StatusOr<std::span<const float>> AttendToken(int layer, int position,
                                                     const LayerQkv& qkv);
  absl::Status AwaitWriteBehind(int layer, int position);
  LocalScores ScoreLocal(const LayerTables& tables, int layer, int position,
                         const float* query);
  AttendedScores AttendResident(const LayerQkv& qkv);
  absl::Status AttendStored(int layer, const LayerQkv& qkv,
                            const LocalScores& local);
  void CorrectAhead(int layer, int position, const LayerQkv& qkv);
  void CorrectLayer(int layer, int position, std::span<const float> query);
  absl::Status SealReady();

  const WorkerParts parts_;
  const PrefetchOptions prefetch_;
  const OpenedSession opened_;
  const float scale_;
  const int prompt_tokens_;
  std::vector<int32_t> tokens_;
  int sealed_segments_ = 0;
  SessionFault fault_;
  ResidentCache cache_;
  WriteBehind write_behind_;
  std::unique_ptr<Prefetcher> prefetcher_;
  // While prefilling, and where layers may have to be exact.
  std::unique_ptr<PrefillStream> stream_;
  QueryEstimates estimates_;
  std::vector<float> attention_;           // output of one layer
  std::vector<float> lse_;
  std::vector<float> local_attention_;     // of the last ScoreLocal
  uint64_t exact_layers_ = 0;
  uint64_t exact_tokens_ = 0;
  std::vector<float> last_queries_;  // [layers][query_heads][head_dim]
  LayerTables tables_;
  LayerTables ahead_tables_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_SESSION_H_
