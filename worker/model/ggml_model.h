// ModelRuntime by ggml on CPU.  LoadGgmlModel, in model_runtime.h, makes one.
#ifndef FORECACHE_WORKER_MODEL_GGML_MODEL_H_
#define FORECACHE_WORKER_MODEL_GGML_MODEL_H_

#include <memory>
#include <span>
#include <vector>

#include "ggml-cpu.h"
#include "worker/model/llama_graphs.h"
#include "worker/model/llama_weights.h"
#include "worker/model/model_runtime.h"

namespace forecache {

// A CPU backend with threads of its own.  They persist: making threads for
// each compute costs up to milliseconds.
//
// Threads: one thread at a time.
class GgmlCpu {
 public:
  static absl::StatusOr<std::unique_ptr<GgmlCpu>> Make(int threads);
  ~GgmlCpu();
  GgmlCpu(const GgmlCpu&) = delete;
  GgmlCpu& operator=(const GgmlCpu&) = delete;

  ggml_backend_t backend() const { return backend_; }

 private:
  GgmlCpu() = default;

  ggml_threadpool_t threadpool_ = nullptr;
  ggml_backend_t backend_ = nullptr;
};

// Keeps the graphs of the pass sizes used last; see kPassSizesMax.
//
// Threads: one thread at a time.
class GgmlModel : public ModelRuntime {
 public:
  // REQUIRES: `options` is valid; the weights were loaded by `decode`.
  GgmlModel(const ModelOptions& options, std::unique_ptr<GgmlCpu> prefill,
            std::unique_ptr<GgmlCpu> decode,
            std::unique_ptr<LlamaWeights> weights);

  const ModelConfig& config() const override {
    return weights_->config().model;
  }
  absl::StatusOr<LayerQkv> Begin(std::span<const int32_t> tokens,
                                 int position) override;
  absl::StatusOr<LayerQkv> Next(std::span<const float> attention) override;
  absl::StatusOr<std::span<const float>> Finish(
      std::span<const float> attention, LogitRows rows) override;

 private:
  absl::Status CheckTokens(std::span<const int32_t> tokens,
                           int position) const;
  LlamaGraphs* GraphsFor(int tokens);
  absl::StatusOr<LayerQkv> ComputeLayer();
  absl::Status Compute(ggml_cgraph* graph);
  void SetAttention(std::span<const float> attention);

  const ModelOptions options_;
  // The weights' buffer and the graphs go before the backends they use.
  const std::unique_ptr<GgmlCpu> prefill_;
  const std::unique_ptr<GgmlCpu> decode_;
  const std::unique_ptr<LlamaWeights> weights_;
  std::vector<std::unique_ptr<LlamaGraphs>> graphs_;  // used last: at the back

  // The pass under way: null before the first and after the last.
  LlamaGraphs* pass_ = nullptr;
  int layer_ = 0;  // whose q, k, v were handed out last
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_MODEL_GGML_MODEL_H_
