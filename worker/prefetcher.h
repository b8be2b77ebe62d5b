// Keeps one session's resident blocks one token ahead of its attention.
//
// For each layer the decode thread and the data-plane thread take turns:
//
//   decode thread              data-plane thread
//   AwaitLayer(l)  ----------- the layer is attention's: nothing changes it
//   attention over l
//   Advance(l, query) ------->  PROBE the store, observe, predict, evict,
//                               FETCH what is missing, fill slots as it comes
//   ... the other layers ...
//   AwaitLayer(l)  <----------  ready, or late (LatePolicy)
//
// so that nearly all of what layer l needs for token t+1 was asked for while
// token t was at layer l.
#ifndef FORECACHE_WORKER_PREFETCHER_H_
#define FORECACHE_WORKER_PREFETCHER_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/clock.h"
#include "common/monotonic_cond.h"
#include "kvstore/client/data_client.h"
#include "predictor/predictor.h"
#include "worker/budget.h"
#include "worker/data_plane_thread.h"
#include "worker/requests_under_way.h"
#include "worker/tail.h"
#include "worker/resident_cache.h"
#include "worker/session_fault.h"
#include "worker/traffic_floor.h"

namespace forecache {

enum class LatePolicy { kWait, kSkip, kStrict };

struct PrefetchOptions {
  Budget budget;
  LatePolicy late_policy = LatePolicy::kWait;
  Nanos late_deadline = 0;
  bool no_prefetch = false;  // ask only when attention needs it
  int probe_every = 1;       // tokens; between, only what was attended is seen
  // What corrections scan is also what the predictor learns from, and there
  // are no other probes: one scan a layer and token.
  bool shared_scan = false;
  // Above 0: a layer is unsure of a token when its correction told that more
  // than this share of attention's mass, a KV head on average, stays missing,
  // or told nothing.
  float auto_missed = 0;
  // Corrections bring the tail too.
  bool tail = false;
  // Corrections use each token's own query, in every layer: for evaluation.
  bool oracle = false;
};

struct PrefetchCounters {
  uint64_t predicted = 0;  // asked for ahead of need
  uint64_t in_time = 0;
  uint64_t late = 0;
  uint64_t missed = 0;
  uint64_t refused = 0;  // failed their checksum: never used
  uint64_t corrected = 0;         // fetched by corrections
  uint64_t corrections_late = 0;  // corrections that attention waited for
  uint64_t probe_key_bytes = 0;   // of 16-bit keys that probes covered
  // Of attention's mass, what was not resident, over (layer, KV head, token)s
  // that a scan told of.
  uint64_t mass_known = 0;
  double mass_missed = 0;         // summed
  double mass_missed_worst = 0;   // the largest
  Nanos predict_time = 0;         // spent by the predictor
};

// What attention learnt about the blocks that the store does not have yet.
struct LocalScores {
  int first_block = 0;             // blocks from here on are local
  int blocks = 0;
  std::vector<float> lse;          // [kv_heads][group], -inf without blocks
  std::vector<float> block_max;    // [kv_heads][group][blocks], logits
};

// What attention saw of the resident blocks: all there is to learn from when
// the store is not asked.
struct AttendedScores {
  struct Head {
    std::vector<int32_t> blocks;   // ascending
    std::vector<float> block_max;  // [group][blocks], logits
  };
  std::vector<Head> heads;  // [kv_heads]; empty unless WantsAttended
  std::vector<float> lse;   // [kv_heads][group], of the resident blocks
  std::vector<float> lse_with_tail;
};

// Threads: AwaitLayer and Advance on the decode thread; all else inside on the
// data-plane thread.
// Lifetime: what it is given must outlive it.  Its destructor waits for the
// data-plane thread to let go.
class Prefetcher : public BlockSink {
 public:
  Prefetcher(const SessionHandle& session, const PrefetchOptions& options,
             float scale, std::unique_ptr<Predictor> predictor,
             ResidentCache* cache, DataPlaneThread* data_plane,
             SessionFault* fault);
  ~Prefetcher() override;

  // The layer's turn passes to the data plane: `position` was just computed
  // with `query` [kv_heads][group][head_dim]; the next token is position + 1.
  // `key` [kv_heads][head_dim] is the token's, if WantsKeys.
  void Advance(int layer, int position, std::span<const float> query,
               LocalScores local, AttendedScores attended = {},
               std::span<const float> key = {});
  // Whether Advance has a use for AttendedScores::heads.
  bool WantsAttended() const { return wants_attended_; }
  // Whether the predictor wants keys: those of the prompt by ObservePromptKeys,
  // before the first Advance.
  bool WantsKeys() const { return predictor_->WantsKeys(); }
  void ObservePromptKeys(int layer, int kv_head, int block,
                         std::span<const float> keys) {
    predictor_->ObserveKeys(layer, kv_head, block, keys);
  }

  // A few layers before `layer` is reached: fetches the best blocks for an
  // estimate of its query at `position` that are not resident, at once.
  // `local` is about the tokens before.  AwaitLayer waits for them too.
  void Correct(int layer, int position, std::span<const float> query,
               LocalScores local);
  // How many blocks of each (layer, KV head) corrections choose.
  int CorrectedBlocks() const;

  // After the prefill: waits until the first blocks of every layer are there.
  // They are a load, not a prediction: nothing is counted.
  absl::Status AwaitFirstBlocks();

  // Waits until the layer is ready for attention, as the late policy says,
  // and gives it to the decode thread.
  absl::Status AwaitLayer(int layer);

  // What the layer's correction told of all that is not resident; null when it
  // was late, or there was none.  Between AwaitLayer and Advance.
  std::unique_ptr<Tail> TakeTail(int layer);

  // Whether what is resident may not do: see PrefetchOptions::auto_missed.
  // Between AwaitLayer and Advance.
  bool IsUnsure(int layer) const;

  PrefetchCounters counters() const;
  size_t history_bytes() const { return history_bytes_.load(); }
  size_t gate_bytes() const;
  // The most that tails took at once.
  size_t tail_bytes() const { return tails_most_.load(); }

  // BlockSink
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override;
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override;

 private:
  enum class Turn { kAttention, kPredicting, kFetching, kReady };
  struct Gate {
    mutable absl::Mutex mutex;
    MonotonicCond may_have_settled;
    Turn turn ABSL_GUARDED_BY(mutex) = Turn::kReady;
    uint64_t round ABSL_GUARDED_BY(mutex) = 0;  // counts Advance calls
    int correction ABSL_GUARDED_BY(mutex) = -1;  // position of the last one
    bool correcting ABSL_GUARDED_BY(mutex) = false;  // it is under way
    double missed ABSL_GUARDED_BY(mutex) = 0;  // as the last correction told
    std::unique_ptr<Tail> tail ABSL_GUARDED_BY(mutex);  // alike
    int requested ABSL_GUARDED_BY(mutex) = 0;
    int arrived ABSL_GUARDED_BY(mutex) = 0;
    int failed ABSL_GUARDED_BY(mutex) = 0;
    // Fetches that `no_prefetch` holds back until attention asks.
    std::vector<wire::FetchEntry> held ABSL_GUARDED_BY(mutex);

    bool Settled() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
      return turn == Turn::kReady && !correcting;
    }
    bool Chosen() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
      return turn == Turn::kReady || turn == Turn::kFetching;
    }
  };
  // The arguments of one Advance or Correct.
  struct Advanced {
    int layer = 0;
    int position = 0;
    uint64_t round = 0;
    std::vector<float> query;
    LocalScores local;
    AttendedScores attended;
    std::vector<float> key;
  };
  static std::shared_ptr<Advanced> MakeAdvanced(int layer, int position,
                                                std::span<const float> query,
                                                LocalScores local);

  // Takes what one correction brings: it is counted apart, and belongs to the
  // query that it was asked for with, however late it comes.
  class CorrectionSink : public CorrectSink {
   public:
    CorrectionSink(Prefetcher* owner,
                   std::shared_ptr<const Advanced> correction)
        : owner_(owner), correction_(std::move(correction)) {}
    void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
                 ByteView v) override;
    void OnSlotReturned(int layer, int kv_head, const wire::OfferedSlot& slot,
                        const absl::Status& why) override;
    void OnCorrected(const CorrectResult& result) override;

   private:
    Prefetcher* const owner_;
    const std::shared_ptr<const Advanced> correction_;
  };

  // All on the data-plane thread.
  void StartCorrection(std::shared_ptr<const Advanced> advanced);
  absl::Status OfferSlots(const Advanced& advanced);
  void TakeBackOffered(int layer);
  void EndCorrection(const Advanced& correction);
  void OnCorrected(const Advanced& correction, const CorrectResult& result);
  void KeepTail(const Advanced& correction, const TailView& view);
  std::unique_ptr<Tail> LetGoTail(Gate* gate)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(gate->mutex);
  size_t IndexOf(int layer, int kv_head) const {
    return size_t{1} * layer * session_.geometry.kv_heads + kv_head;
  }
  // Places that a correction of the head may fill.
  int CorrectedOf(int layer, int kv_head) const;
  bool BlockFailed(int layer, const wire::FetchEntry& entry,
                   const absl::Status& why);
  void StartProbe(std::shared_ptr<Advanced> advanced);
  void CountProbe(int blocks);
  void ObserveToken(const Advanced& advanced);
  void OnProbe(const Advanced& advanced, const ProbeResult* probe);
  void BuildRow(const LocalScores& local, const ProbeResult* probe,
                int kv_head);
  void ObserveRow(const LocalScores& local, const ProbeResult* probe,
                  int layer, int kv_head);
  void ObserveAttended(const Advanced& advanced, int kv_head);
  bool WantsProbe(const Advanced& advanced) const;
  void CountMissed(const Advanced& advanced, int kv_head);
  void CountMissedMass(const Advanced& advanced, const ProbeResult& probe,
                       int kv_head);
  void AddMissedMass(double missed);
  // The blocks that the token after `advanced` shall find, into wanted_.
  void ChooseBlocks(const Advanced& advanced, int kv_head);
  // Of the choices, those that are here already are worth `margin` more.
  void PreferHeld(int layer, int kv_head, float margin, int count);
  void StartFetch(int layer, std::vector<wire::FetchEntry> missing);
  void SendFetch(int layer, const std::vector<wire::FetchEntry>& missing);
  void Fail(const absl::Status& why);

  // On the decode thread.
  absl::Status AskForHeld(int layer);

  const SessionHandle session_;
  const PrefetchOptions options_;
  const float scale_;
  const std::unique_ptr<Predictor> predictor_;
  // What this token's own query would have chosen: for counting only.  Null
  // when the predictor itself says so.
  const std::unique_ptr<Predictor> hindsight_;
  const bool wants_attended_;
  ResidentCache* const cache_;
  DataPlaneThread* const data_plane_;
  SessionFault* const fault_;
  std::vector<std::unique_ptr<Gate>> gates_;
  std::atomic<size_t> history_bytes_{0};
  std::atomic<size_t> tails_held_{0}, tails_most_{0};
  std::atomic<uint64_t> predicted_{0}, in_time_{0}, late_{0}, missed_{0},
      refused_{0}, corrected_{0}, corrections_late_{0}, probe_key_bytes_{0};
  std::atomic<Nanos> predict_time_{0};
  std::atomic<uint64_t> mass_known_{0};
  std::atomic<double> mass_missed_{0}, mass_missed_worst_{0};
  // False once the session has ended: late answers find nobody.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  // Whether scores of a correction were observed since the layer's last choice.
  std::vector<bool> observed_;
  // On the data-plane thread.  Stepped by the first correction of each token,
  // when all that moved for the one before is known.
  TrafficFloor traffic_;
  int traffic_position_ = -1;
  // Scratch of the data-plane thread.
  std::vector<float> row_;
  std::vector<BlockChoice> choices_;
  std::vector<int32_t> wanted_;
  std::vector<int32_t> resident_;
  // Fetches and corrections.  All are cancelled before this goes: whatever a
  // silent store owes, no sink hears of it afterwards.
  RequestsUnderWay under_way_;
  // Of the correction that is being asked for: see CorrectRequest.
  std::vector<uint64_t> residency_;
  std::vector<uint32_t> slot_counts_;
  std::vector<wire::OfferedSlot> offered_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_PREFETCHER_H_
