#include "worker/model/ggml_model.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/check.h"
#include "common/limits.h"
#include "common/status.h"
#include "worker/model/ggml_log.h"
#include "worker/model/gguf_file.h"

namespace forecache {
namespace {

std::span<const float> Floats(const ggml_tensor* tensor) {
  return {static_cast<const float*>(tensor->data),
          static_cast<size_t>(ggml_nelements(tensor))};
}

absl::Status CheckOptions(const ModelOptions& options) {
  if (options.max_chunk_tokens < 1 ||
      options.max_chunk_tokens > kContextTokensMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_chunk_tokens is ", options.max_chunk_tokens,
                     ", not within 1 to ", kContextTokensMax));
  }
  for (const int threads : {options.prefill_threads, options.decode_threads}) {
    if (threads < 1 || threads > kModelThreadsMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("a model can't run on ", threads, " threads; 1 to ",
                       kModelThreadsMax, " work"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<GgmlCpu>> GgmlCpu::Make(int threads) {
  ggml_threadpool_params params = ggml_threadpool_params_default(threads);
  // Between two computes the caller attends, on the same cores: threads that
  // poll for work would be in its way.
  params.poll = 0;
  std::unique_ptr<GgmlCpu> cpu(new GgmlCpu);
  cpu->threadpool_ = ggml_threadpool_new(&params);
  cpu->backend_ = ggml_backend_cpu_init();
  if (cpu->threadpool_ == nullptr || cpu->backend_ == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("ggml can't start ", threads, " threads"));
  }
  ggml_backend_cpu_set_n_threads(cpu->backend_, threads);
  ggml_backend_cpu_set_threadpool(cpu->backend_, cpu->threadpool_);
  return cpu;
}

GgmlCpu::~GgmlCpu() {
  if (backend_ != nullptr) ggml_backend_free(backend_);
  if (threadpool_ != nullptr) ggml_threadpool_free(threadpool_);
}

GgmlModel::GgmlModel(const ModelOptions& options,
                     std::unique_ptr<GgmlCpu> prefill,
                     std::unique_ptr<GgmlCpu> decode,
                     std::unique_ptr<LlamaWeights> weights)
    : options_(options),
      prefill_(std::move(prefill)),
      decode_(std::move(decode)),
      weights_(std::move(weights)) {}

absl::Status GgmlModel::CheckTokens(std::span<const int32_t> tokens,
                                    int position) const {
  const int n = static_cast<int>(tokens.size());
  if (n < 1 || n > options_.max_chunk_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("a pass over ", n, " tokens; max_chunk_tokens is ",
                     options_.max_chunk_tokens));
  }
  if (position < 0 || position > config().context_tokens - n) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a pass over ", n, " tokens at position ", position,
        "; the model's context_tokens is ", config().context_tokens));
  }
  for (const int32_t token : tokens) {
    if (token < 0 || token >= config().vocabulary) {
      return absl::InvalidArgumentError(
          absl::StrCat("token ", token, "; the model's vocabulary is ",
                       config().vocabulary));
    }
  }
  return absl::OkStatus();
}

LlamaGraphs* GgmlModel::GraphsFor(int tokens) {
  const auto found = std::find_if(
      graphs_.begin(), graphs_.end(),
      [tokens](const auto& graphs) { return graphs->tokens() == tokens; });
  if (found != graphs_.end()) {
    std::rotate(found, found + 1, graphs_.end());
    return graphs_.back().get();
  }
  if (graphs_.size() >= kPassSizesMax) {
    // Decode steps and full chunks come back for sure: these two stay.
    graphs_.erase(std::find_if(
        graphs_.begin(), graphs_.end(), [this](const auto& graphs) {
          return graphs->tokens() != 1 &&
                 graphs->tokens() != options_.max_chunk_tokens;
        }));
  }
  const bool bf16 = !weights_->bf16_layers().empty() &&
                    tokens >= kBf16PassTokensMin;
  graphs_.push_back(std::make_unique<LlamaGraphs>(
      *weights_, bf16 ? weights_->bf16_layers() : weights_->layers(),
      (tokens == 1 ? decode_ : prefill_)->backend(), tokens));
  return graphs_.back().get();
}

absl::Status GgmlModel::Compute(ggml_cgraph* graph) {
  GgmlErrors errors;
  const ggml_status status =
      ggml_backend_graph_compute(pass_->backend(), graph);
  if (status == GGML_STATUS_SUCCESS) return absl::OkStatus();
  pass_ = nullptr;
  return absl::InternalError(absl::StrCat(
      "ggml: ", ggml_status_to_string(status), ": ", errors.Text()));
}

absl::StatusOr<LayerQkv> GgmlModel::ComputeLayer() {
  const LlamaGraphs::LayerGraph& layer = pass_->layer(layer_);
  FC_RETURN_IF_ERROR(Compute(layer.graph));
  return LayerQkv{
      .q = Floats(layer.q),
      .k = Floats(layer.k),
      .v = Floats(layer.v),
      .q_ahead = layer.q_ahead == nullptr ? std::span<const float>()
                                          : Floats(layer.q_ahead)};
}

void GgmlModel::SetAttention(std::span<const float> attention) {
  FC_CHECK(pass_ != nullptr) << "no pass is under way";
  FC_CHECK(attention.size() == Floats(pass_->attention()).size())
      << attention.size() << " floats of attention";
  ggml_backend_tensor_set(pass_->attention(), attention.data(), 0,
                          attention.size_bytes());
}

absl::StatusOr<LayerQkv> GgmlModel::Begin(std::span<const int32_t> tokens,
                                          int position) {
  pass_ = nullptr;
  FC_RETURN_IF_ERROR(CheckTokens(tokens, position));
  pass_ = GraphsFor(static_cast<int>(tokens.size()));
  layer_ = 0;
  ggml_backend_tensor_set(pass_->token_ids(), tokens.data(), 0,
                          tokens.size_bytes());
  int32_t* positions = static_cast<int32_t*>(pass_->positions()->data);
  std::iota(positions, positions + tokens.size(), position);
  return ComputeLayer();
}

absl::StatusOr<LayerQkv> GgmlModel::Next(std::span<const float> attention) {
  SetAttention(attention);
  FC_CHECK(layer_ + 1 < config().layers) << "the last layer: Finish ends it";
  ++layer_;
  return ComputeLayer();
}

absl::StatusOr<std::span<const float>> GgmlModel::Finish(
    std::span<const float> attention, LogitRows rows) {
  SetAttention(attention);
  FC_CHECK(layer_ + 1 == config().layers) << "layer " << layer_;
  if (rows == LogitRows::kNone) {
    pass_ = nullptr;
    return std::span<const float>();
  }
  const LlamaGraphs::LogitsGraph& logits = pass_->logits(rows);
  FC_RETURN_IF_ERROR(Compute(logits.graph));
  pass_ = nullptr;
  return Floats(logits.logits);
}

absl::StatusOr<std::unique_ptr<ModelRuntime>> LoadGgmlModel(
    const ModelOptions& options) {
  SilenceGgmlLogs();
  FC_RETURN_IF_ERROR(CheckOptions(options));
  FC_ASSIGN_OR_RETURN(std::unique_ptr<GgufFile> file,
                      GgufFile::Open(options.path));
  FC_ASSIGN_OR_RETURN(LlamaConfig config, ReadLlamaConfig(*file));
  FC_ASSIGN_OR_RETURN(config.model.weights_digest, file->Digest());
  FC_ASSIGN_OR_RETURN(auto prefill, GgmlCpu::Make(options.prefill_threads));
  FC_ASSIGN_OR_RETURN(auto decode, GgmlCpu::Make(options.decode_threads));
  FC_ASSIGN_OR_RETURN(
      std::unique_ptr<LlamaWeights> weights,
      LlamaWeights::Load(config, file.get(), decode->backend()));
  if (options.prefill_weights == PrefillWeights::kBf16) {
    FC_RETURN_IF_ERROR(weights->AddBf16Layers(decode->backend()));
  }
  return std::make_unique<GgmlModel>(options, std::move(prefill),
                                     std::move(decode), std::move(weights));
}

}  // namespace forecache
