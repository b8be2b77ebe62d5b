// The weights of a Llama-type model in memory, with the numbers that say how
// to use them.
#ifndef FORECACHE_WORKER_MODEL_LLAMA_WEIGHTS_H_
#define FORECACHE_WORKER_MODEL_LLAMA_WEIGHTS_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "ggml-cpp.h"
#include "worker/model/gguf_file.h"
#include "worker/model/model_runtime.h"

namespace forecache {

// What the graphs need beyond ModelConfig.
struct LlamaConfig {
  ModelConfig model;
  int feed_forward = 0;
  float rms_epsilon = 0;
  float rope_scale = 1;  // of positions: 1 / the linear scaling factor
  int rope_original_context = 0;

  int q_width() const { return model.query_heads * model.head_dim; }
  int kv_width() const { return model.kv_heads * model.head_dim; }
};

// Reads the configuration.  kUnimplemented: not a plain Llama (names what is
// not supported); kDataLoss: a field is missing or makes no sense.
absl::StatusOr<LlamaConfig> ReadLlamaConfig(const GgufFile& file);

// A projection: a matrix and, in some models, a bias (else null).
struct Projection {
  ggml_tensor* weight = nullptr;
  ggml_tensor* bias = nullptr;
};

struct LlamaLayer {
  ggml_tensor* attention_norm = nullptr;
  Projection q, k, v, out;
  ggml_tensor* feed_forward_norm = nullptr;
  Projection gate, up, down;
};

// Weights as stored, and if asked for a BF16 copy of the layers' matrices.
//
// Threads: immutable after loading, safe to read from any thread.
class LlamaWeights {
 public:
  // Checks every tensor's shape, then loads them all by `backend`, which must
  // keep them in host memory and outlive the weights.  `file` is spent.
  static absl::StatusOr<std::unique_ptr<LlamaWeights>> Load(
      const LlamaConfig& config, GgufFile* file, ggml_backend_t backend);

  // Makes the BF16 copy; see ModelOptions::prefill_weights.
  absl::Status AddBf16Layers(ggml_backend_t backend);

  const LlamaConfig& config() const { return config_; }
  const std::vector<LlamaLayer>& layers() const { return layers_; }
  // Empty without AddBf16Layers.
  const std::vector<LlamaLayer>& bf16_layers() const { return bf16_layers_; }
  ggml_tensor* embedding() const { return embedding_; }
  ggml_tensor* output_norm() const { return output_norm_; }
  ggml_tensor* output() const { return output_; }  // may be the embedding
  ggml_tensor* rope_factors() const { return rope_factors_; }  // may be null

 private:
  explicit LlamaWeights(const LlamaConfig& config) : config_(config) {}

  absl::Status FindTensors(const GgufFile& file);

  const LlamaConfig config_;
  ggml_context_ptr tensors_;
  ggml_backend_buffer_ptr buffer_;
  ggml_context_ptr bf16_tensors_;
  ggml_backend_buffer_ptr bf16_buffer_;
  std::vector<LlamaLayer> layers_;
  std::vector<LlamaLayer> bf16_layers_;
  ggml_tensor* embedding_ = nullptr;
  ggml_tensor* output_norm_ = nullptr;
  ggml_tensor* output_ = nullptr;
  ggml_tensor* rope_factors_ = nullptr;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_MODEL_LLAMA_WEIGHTS_H_
