// The graphs of one pass over n tokens, cut at attention.
#ifndef FORECACHE_WORKER_MODEL_LLAMA_GRAPHS_H_
#define FORECACHE_WORKER_MODEL_LLAMA_GRAPHS_H_

#include <memory>
#include <span>
#include <vector>

#include "ggml-cpp.h"
#include "worker/model/llama_weights.h"

namespace forecache {

// The graphs for passes of exactly n tokens.  Graph 0 ends with layer 0's q, k
// and v; graph l ends layer l - 1, from its attention on, and goes on to layer
// l's q, k and v; a logits graph ends the last layer.  The residual stream
// lives between them in a tensor of its own.
//
// Threads: one thread at a time.
class LlamaGraphs {
 public:
  struct LayerGraph {
    ggml_cgraph* graph = nullptr;
    ggml_tensor* q = nullptr;  // [n][query_heads][head_dim], after RoPE
    ggml_tensor* k = nullptr;  // [n][kv_heads][head_dim], after RoPE
    ggml_tensor* v = nullptr;  // [n][kv_heads][head_dim]
    ggml_tensor* q_ahead = nullptr;  // see LayerQkv; null where there is none
  };
  struct LogitsGraph {
    ggml_cgraph* graph = nullptr;
    ggml_tensor* logits = nullptr;  // [rows][vocabulary]
  };

  // Builds all but the logits graphs, with `layers` as the weights' layers.
  // All arguments outlive the graphs.  Aborts when memory is out.
  LlamaGraphs(const LlamaWeights& weights,
              const std::vector<LlamaLayer>& layers, ggml_backend_t backend,
              int tokens);

  int tokens() const { return tokens_; }
  ggml_backend_t backend() const { return backend_; }

  // Inputs, to be written before a compute.
  ggml_tensor* token_ids() const { return token_ids_; }
  ggml_tensor* positions() const { return positions_; }
  ggml_tensor* attention() const { return attention_; }

  const LayerGraph& layer(int index) const { return layer_graphs_[index]; }
  // Built at the first use: all rows of logits take much memory.
  const LogitsGraph& logits(LogitRows rows);

 private:
  // One context and allocator: graphs that never run at the same time.
  struct Memory {
    ggml_context_ptr context;
    ggml_gallocr_ptr allocator;
  };

  Memory MakeMemory(int graphs) const;
  void Place(Memory* memory, std::span<ggml_cgraph* const> graphs) const;
  void MakeInputs();
  LayerGraph BuildLayer(ggml_context* context, int index);
  LogitsGraph BuildLogits(ggml_context* context, bool last_row_only);

  ggml_tensor* Norm(ggml_context* context, ggml_tensor* input,
                    ggml_tensor* weight) const;
  ggml_tensor* Rope(ggml_context* context, ggml_tensor* input,
                    int heads) const;
  // Layer `index` from its attention to its end.
  ggml_tensor* FinishLayer(ggml_context* context, int index,
                           ggml_tensor* attention, ggml_tensor* residual) const;

  const LlamaWeights& weights_;
  const LlamaConfig& config_;
  const std::vector<LlamaLayer>& layers_;
  const ggml_backend_t backend_;
  const int tokens_;

  ggml_context_ptr input_context_;
  ggml_backend_buffer_ptr input_buffer_;
  ggml_tensor* token_ids_ = nullptr;
  ggml_tensor* positions_ = nullptr;
  ggml_tensor* attention_ = nullptr;
  ggml_tensor* residual_ = nullptr;

  Memory layer_memory_;
  std::vector<LayerGraph> layer_graphs_;
  Memory last_memory_, all_memory_;
  LogitsGraph last_, all_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_MODEL_LLAMA_GRAPHS_H_
