#include "worker/model/llama_graphs.h"

#include "common/check.h"

namespace forecache {
namespace {

// A layer needs about 40; ggml aborts when it is too few.
constexpr int kGraphNodesMax = 64;

ggml_tensor* Project(ggml_context* context, const Projection& projection,
                     ggml_tensor* input) {
  ggml_tensor* result = ggml_mul_mat(context, projection.weight, input);
  if (projection.bias == nullptr) return result;
  return ggml_add(context, result, projection.bias);
}

// Marks `tensor` as a result: its memory is not used again in its graph.
void Expose(ggml_cgraph* graph, ggml_tensor* tensor) {
  ggml_set_output(tensor);
  ggml_build_forward_expand(graph, tensor);
}

}  // namespace

LlamaGraphs::LlamaGraphs(const LlamaWeights& weights,
                         const std::vector<LlamaLayer>& layers,
                         ggml_backend_t backend, int tokens)
    : weights_(weights),
      config_(weights.config()),
      layers_(layers),
      backend_(backend),
      tokens_(tokens) {
  MakeInputs();
  layer_memory_ = MakeMemory(config_.model.layers);
  std::vector<ggml_cgraph*> graphs;
  for (int i = 0; i < config_.model.layers; ++i) {
    layer_graphs_.push_back(BuildLayer(layer_memory_.context.get(), i));
    graphs.push_back(layer_graphs_.back().graph);
  }
  Place(&layer_memory_, graphs);
}

LlamaGraphs::Memory LlamaGraphs::MakeMemory(int graphs) const {
  const size_t graph_bytes =
      ggml_graph_overhead_custom(kGraphNodesMax, /*grads=*/false) +
      kGraphNodesMax * ggml_tensor_overhead();
  Memory memory;
  memory.context.reset(ggml_init({.mem_size = graphs * graph_bytes,
                                  .mem_buffer = nullptr,
                                  .no_alloc = true}));
  memory.allocator.reset(
      ggml_gallocr_new(ggml_backend_get_default_buffer_type(backend_)));
  FC_CHECK(memory.context != nullptr && memory.allocator != nullptr);
  return memory;
}

void LlamaGraphs::Place(Memory* memory,
                        std::span<ggml_cgraph* const> graphs) const {
  // The graphs share one buffer.  Growing it would move it away under those
  // that were placed before, so it grows to its full size first.
  for (ggml_cgraph* graph : graphs) {
    FC_CHECK(ggml_gallocr_reserve(memory->allocator.get(), graph));
  }
  for (ggml_cgraph* graph : graphs) {
    FC_CHECK(ggml_gallocr_alloc_graph(memory->allocator.get(), graph));
  }
}

void LlamaGraphs::MakeInputs() {
  constexpr int kInputs = 4;
  input_context_.reset(ggml_init({.mem_size = kInputs * ggml_tensor_overhead(),
                                  .mem_buffer = nullptr,
                                  .no_alloc = true}));
  ggml_context* context = input_context_.get();
  token_ids_ = ggml_new_tensor_1d(context, GGML_TYPE_I32, tokens_);
  positions_ = ggml_new_tensor_1d(context, GGML_TYPE_I32, tokens_);
  attention_ =
      ggml_new_tensor_2d(context, GGML_TYPE_F32, config_.q_width(), tokens_);
  residual_ =
      ggml_new_tensor_2d(context, GGML_TYPE_F32, config_.model.hidden, tokens_);
  input_buffer_.reset(ggml_backend_alloc_ctx_tensors(context, backend_));
  FC_CHECK(input_buffer_ != nullptr);
}

ggml_tensor* LlamaGraphs::Norm(ggml_context* context, ggml_tensor* input,
                               ggml_tensor* weight) const {
  return ggml_mul(context,
                  ggml_rms_norm(context, input, config_.rms_epsilon), weight);
}

ggml_tensor* LlamaGraphs::Rope(ggml_context* context, ggml_tensor* input,
                               int heads) const {
  const ModelConfig& model = config_.model;
  ggml_tensor* split =
      ggml_reshape_3d(context, input, model.head_dim, heads, tokens_);
  return ggml_rope_ext(context, split, positions_, weights_.rope_factors(),
                       model.head_dim, GGML_ROPE_TYPE_NORMAL,
                       config_.rope_original_context, model.rope_base,
                       config_.rope_scale, /*ext_factor=*/0,
                       /*attn_factor=*/1, /*beta_fast=*/32, /*beta_slow=*/1);
}

ggml_tensor* LlamaGraphs::FinishLayer(ggml_context* context, int index,
                                      ggml_tensor* attention,
                                      ggml_tensor* residual) const {
  const LlamaLayer& layer = layers_[index];
  ggml_tensor* middle =
      ggml_add(context, Project(context, layer.out, attention), residual);
  ggml_tensor* input = Norm(context, middle, layer.feed_forward_norm);
  ggml_tensor* gate = Project(context, layer.gate, input);
  ggml_tensor* up = Project(context, layer.up, input);
  ggml_tensor* down = Project(context, layer.down,
                              ggml_swiglu_split(context, gate, up));
  return ggml_add(context, down, middle);
}

LlamaGraphs::LayerGraph LlamaGraphs::BuildLayer(ggml_context* context,
                                                int index) {
  const ModelConfig& model = config_.model;
  const LlamaLayer& layer = layers_[index];
  LayerGraph result;
  result.graph =
      ggml_new_graph_custom(context, kGraphNodesMax, /*grads=*/false);
  ggml_tensor* residual =
      index == 0 ? ggml_get_rows(context, weights_.embedding(), token_ids_)
                 : FinishLayer(context, index - 1, attention_, residual_);
  ggml_tensor* input = Norm(context, residual, layer.attention_norm);
  result.q = Rope(context, Project(context, layer.q, input),
                  model.query_heads);
  result.k = Rope(context, Project(context, layer.k, input), model.kv_heads);
  result.v = Project(context, layer.v, input);
  Expose(result.graph, result.q);
  Expose(result.graph, result.k);
  Expose(result.graph, result.v);
  if (tokens_ == 1 && index + kQueryAheadLayers < model.layers) {
    const LlamaLayer& ahead = layers_[index + kQueryAheadLayers];
    ggml_tensor* early = Norm(context, residual, ahead.attention_norm);
    result.q_ahead =
        Rope(context, Project(context, ahead.q, early), model.query_heads);
    Expose(result.graph, result.q_ahead);
  }
  // Last: until here the old residual was still being read.
  Expose(result.graph, ggml_cpy(context, residual, residual_));
  return result;
}

LlamaGraphs::LogitsGraph LlamaGraphs::BuildLogits(ggml_context* context,
                                                  bool last_row_only) {
  LogitsGraph result;
  result.graph =
      ggml_new_graph_custom(context, kGraphNodesMax, /*grads=*/false);
  ggml_tensor* attention = attention_;
  ggml_tensor* residual = residual_;
  if (last_row_only) {
    const int64_t row = tokens_ - 1;
    attention = ggml_view_2d(context, attention, attention->ne[0], 1,
                             attention->nb[1], row * attention->nb[1]);
    residual = ggml_view_2d(context, residual, residual->ne[0], 1,
                            residual->nb[1], row * residual->nb[1]);
  }
  ggml_tensor* end =
      FinishLayer(context, config_.model.layers - 1, attention, residual);
  result.logits =
      ggml_mul_mat(context, weights_.output(),
                   Norm(context, end, weights_.output_norm()));
  Expose(result.graph, result.logits);
  return result;
}

const LlamaGraphs::LogitsGraph& LlamaGraphs::logits(LogitRows rows) {
  FC_CHECK(rows != LogitRows::kNone);
  const bool last_row_only = rows == LogitRows::kLast || tokens_ == 1;
  LogitsGraph& graph = last_row_only ? last_ : all_;
  if (graph.graph == nullptr) {
    Memory& memory = last_row_only ? last_memory_ : all_memory_;
    memory = MakeMemory(1);
    graph = BuildLogits(memory.context.get(), last_row_only);
    Place(&memory, {&graph.graph, 1});
  }
  return graph;
}

}  // namespace forecache
