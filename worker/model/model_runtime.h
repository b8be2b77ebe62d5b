// A language model, cut open at attention.
//
// The runtime does everything of a decoder-only transformer but attention:
// embedding, norms, projections, RoPE, MLP, logits.  Between its parts the
// caller attends however it likes.  A pass over n new tokens goes
//
//   Begin(tokens, position)    -> q, k, v of layer 0
//   Next(attention of layer l) -> q, k, v of layer l + 1        (layers - 1 x)
//   Finish(attention of the last layer) -> logits
//
// so that an engine other than ggml can take its place.
#ifndef FORECACHE_WORKER_MODEL_MODEL_RUNTIME_H_
#define FORECACHE_WORKER_MODEL_MODEL_RUNTIME_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/statusor.h"

namespace forecache {

struct ModelConfig {
  std::string architecture;  // "llama"
  std::string name;          // for people
  int layers = 0;
  int query_heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int hidden = 0;
  int vocabulary = 0;
  int context_tokens = 0;  // the model's own limit
  float rope_base = 0;
  // Hex SHA-256 over the weights' file: part of every segment's identity.
  std::string weights_digest;

  int group() const { return query_heads / kv_heads; }
};

// What attention of one layer needs, after RoPE, not scaled.  The views end
// with the next call on the runtime.
struct LayerQkv {
  std::span<const float> q;  // [n][query_heads][head_dim]
  std::span<const float> k;  // [n][kv_heads][head_dim]
  std::span<const float> v;  // [n][kv_heads][head_dim]
  // An estimate of the query of the layer kQueryAheadLayers further on, from
  // the residual stream as it enters this one: [query_heads][head_dim], after
  // RoPE.  Only in passes of one token; empty where there is no such layer.
  std::span<const float> q_ahead;
};

// How far ahead a query is estimated: far enough for a round trip to the store,
// near enough to be right (docs/QUALITY.md).
inline constexpr int kQueryAheadLayers = 1;

enum class LogitRows { kNone, kLast, kAll };

// Threads: one thread at a time.
class ModelRuntime {
 public:
  virtual ~ModelRuntime() = default;
  virtual const ModelConfig& config() const = 0;

  // Starts a pass over `tokens` at positions position, position + 1, ...
  // An unfinished pass is dropped.  kInvalidArgument names the limit when a
  // token is outside the vocabulary, when there are more than
  // `max_chunk_tokens` or none, or when positions leave `context_tokens`.
  virtual absl::StatusOr<LayerQkv> Begin(std::span<const int32_t> tokens,
                                         int position) = 0;

  // `attention` is [n][query_heads][head_dim] of the layer begun last.
  // It may be overwritten or freed once the call returned.
  // REQUIRES: that layer is not the last one.
  virtual absl::StatusOr<LayerQkv> Next(std::span<const float> attention) = 0;

  // Ends the pass: logits [rows][vocabulary], valid until the next call.
  // kNone computes nothing and returns an empty view; kLast computes the last
  // layer's end for one row only.
  // REQUIRES: the layer begun last is the last one.
  virtual absl::StatusOr<std::span<const float>> Finish(
      std::span<const float> attention, LogitRows rows) = 0;
};

// Which weights passes of kBf16PassTokensMin tokens or more run on.
enum class PrefillWeights {
  kAsStored,
  // A BF16 copy of the layers' matrices: several times faster than 4-bit
  // formats on CPUs with BF16 products, for 2 more bytes a weight.
  kBf16,
};

struct ModelOptions {
  std::string path;           // a GGUF file
  int max_chunk_tokens = 512;
  int prefill_threads = 2;    // for passes of more than one token
  int decode_threads = 1;
  PrefillWeights prefill_weights = PrefillWeights::kAsStored;
};

// Loads a GGUF file of the Llama family.  kNotFound: no such file; kDataLoss:
// truncated or not GGUF, or fields or tensors that are missing or misshapen
// (says what is wrong where); kUnimplemented: another architecture or a variant
// that would be computed wrongly (names it, and those that work);
// kInvalidArgument: options; kResourceExhausted: memory.
absl::StatusOr<std::unique_ptr<ModelRuntime>> LoadGgmlModel(
    const ModelOptions& options);

}  // namespace forecache

#endif  // FORECACHE_WORKER_MODEL_MODEL_RUNTIME_H_
