// A Predictor names the KV blocks that the next token will need.
//
// It learns from rows: how much attention each block got, at the last token,
// from one KV head's query heads.  It is asked once a token and (layer, KV
// head), right after it observed that token's row, and its answer is fetched
// while the rest of the token is computed: one token ahead.
//
// Sinks and the recent window are not its business: the caller adds those
// (they are inside the budget) and asks for the rest.
#ifndef FORECACHE_PREDICTOR_PREDICTOR_H_
#define FORECACHE_PREDICTOR_PREDICTOR_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace forecache {

// What a row says of a block, for one query head.
enum class RowKind : uint8_t {
  kMax,   // the largest attention probability of its tokens
  kMass,  // the sum of them: exp(the block's log-sum-exp - the context's)
};

// What one token's attention looked like for one (layer, KV head).
struct AttentionRow {
  // Of each block, for each query head (see `kind`):
  // probabilities[head * blocks + block], in [0, 1].
  std::span<const float> probabilities;
  int blocks = 0;  // of the context so far, the one being filled included
  // Set when only these blocks were seen (ascending ids), as without a probe;
  // the other entries mean nothing.  Empty: all blocks were seen.
  std::span<const int32_t> seen;
  RowKind kind = RowKind::kMax;  // the same for all rows of a predictor
};

// Which blocks may be chosen: [first, end) of the context.
struct ChoiceRange {
  int first = 0;  // blocks before are sinks
  int end = 0;    // blocks from here on are the recent window
};

struct BlockChoice {
  int32_t block = 0;
  float confidence = 0;  // the predictor's score; larger is surer
};

// Threads: one thread at a time.
class Predictor {
 public:
  struct Shape {
    int layers = 0;
    int kv_heads = 0;
    int group = 0;     // query heads of one KV head
    int head_dim = 0;  // for policies that look at keys or queries, else 0
  };

  virtual ~Predictor() = default;
  virtual std::string Name() const = 0;

  // Learns from the row of (layer, kv_head).  The context may have grown by
  // whole blocks since the last row; it never shrinks.
  virtual void Observe(int layer, int kv_head, const AttentionRow& row) = 0;

  // Fills `choices` with at most `count` distinct blocks of `range`, best
  // first.  Ties go to the later block.  Fewer when the range is smaller, or
  // when the policy does not want more.
  virtual void Predict(int layer, int kv_head, const ChoiceRange& range,
                       int count, std::vector<BlockChoice>* choices) = 0;

  // Whether this layer's next row should come from a probe at the store
  // (scores of all blocks) or only from what was attended.  Asked once a
  // token, after ObserveQuery of all its heads.
  virtual bool WantsProbe(int layer) const = 0;

  // The same for one KV head, where probes can be had head by head.  A layer
  // wants a probe when one of its heads does.
  virtual bool WantsProbeOfHead(int layer, int kv_head) const {
    return WantsProbe(layer);
  }

  // Whether rows of what was attended only are of use to it, besides those of
  // probes.  The same for its whole life.
  virtual bool WantsAttended() const { return false; }

  // The present token's query [group][head_dim], after RoPE and before the
  // token's row.  Ignored, unless WantsQueries().
  virtual bool WantsQueries() const { return false; }
  virtual void ObserveQuery(int layer, int kv_head,
                            std::span<const float> query) {}

  // Keys [tokens][head_dim] that lie in `block`, after RoPE: of the prompt
  // once, of a decoded token as it comes.  Ignored, unless WantsKeys().
  virtual bool WantsKeys() const { return false; }
  virtual void ObserveKeys(int layer, int kv_head, int block,
                           std::span<const float> keys) {}

  // Bytes of history that it keeps: they count as memory of the context.
  virtual size_t HistoryBytes() const = 0;
};

struct PredictorOptions {
  std::string name = "last";  // see PredictorNames
  Predictor::Shape shape;
  float ema_alpha = 0.3f;     // ema: weight of the newest row, in (0, 1]
  int recycled_steps = 4;     // recycled: tokens from one probe to the next
  float tactic_share = 0.95f;  // tactic: of the attention mass, in (0, 1]
  // conv: a file of weights (predictor/weights/); "" takes those built in.
  std::string conv_weights;
  // Adaptive probing on top of the policy: it is asked for probes only where
  // they are worth it.
  bool adaptive = false;
  float adaptive_share = 0.5f;  // of all probes, at most, in (0, 1]
  // Worth of fresh scores of each (layer, KV head), [layers * kv_heads], any
  // scale: a profile of the model.  Empty: all alike.
  std::vector<float> adaptive_profile;
};

// kInvalidArgument names the field and what it may be.
absl::StatusOr<std::unique_ptr<Predictor>> MakePredictor(
    const PredictorOptions& options);

// The names that MakePredictor takes, in order.
std::vector<std::string> PredictorNames();

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_PREDICTOR_H_
