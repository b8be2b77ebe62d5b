#include "worker/model/llama_weights.h"

#include <string>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace forecache {
namespace {

// Finds tensors of stated shapes, and keeps the first error.
//
// Threads: one thread at a time.
class TensorFinder {
 public:
  explicit TensorFinder(const GgufFile& file) : file_(file) {}

  ggml_tensor* Matrix(const std::string& name, int64_t in, int64_t out,
                      bool required = true) {
    ggml_tensor* tensor = Find(name, in, out, required);
    // Only some types have products on every backend.
    if (tensor != nullptr && status_.ok() &&
        ggml_get_type_traits(tensor->type)->to_float == nullptr &&
        tensor->type != GGML_TYPE_F32) {
      status_ = file_.Unsupported(absl::StrCat(
          "tensor ", name, " is of type ", ggml_type_name(tensor->type)));
    }
    return tensor;
  }

  ggml_tensor* Vector(const std::string& name, int64_t size,
                      bool required = true) {
    ggml_tensor* tensor = Find(name, size, 1, required);
    if (tensor != nullptr && status_.ok() && tensor->type != GGML_TYPE_F32) {
      status_ = file_.Unsupported(
          absl::StrCat("tensor ", name, " is of type ",
                       ggml_type_name(tensor->type), ", not f32"));
    }
    return tensor;
  }

  // `name`.weight, and `name`.bias if there is one.
  Projection Project(const std::string& name, int64_t in, int64_t out) {
    return {.weight = Matrix(name + ".weight", in, out),
            .bias = Vector(name + ".bias", out, false)};
  }

  const absl::Status& status() const { return status_; }

 private:
  ggml_tensor* Find(const std::string& name, int64_t in, int64_t out,
                    bool required) {
    ggml_tensor* tensor = file_.FindTensor(name);
    if (!status_.ok()) return nullptr;
    if (tensor == nullptr) {
      if (required) {
        status_ = file_.Damaged(absl::StrCat("lacks the tensor ", name));
      }
      return nullptr;
    }
    if (tensor->ne[0] != in || tensor->ne[1] != out || tensor->ne[2] != 1 ||
        tensor->ne[3] != 1) {
      status_ = file_.Damaged(absl::StrCat(
          "tensor ", name, " is ", tensor->ne[0], " x ", tensor->ne[1], " x ",
          tensor->ne[2], " x ", tensor->ne[3], ", not ", in, " x ", out));
    }
    return tensor;
  }

  const GgufFile& file_;
  absl::Status status_;
};

// A BF16 copy of `tensor`, still without data.
ggml_tensor* DeclareBf16(ggml_context* context, const ggml_tensor* tensor) {
  ggml_tensor* copy = ggml_new_tensor_2d(context, GGML_TYPE_BF16,
                                         tensor->ne[0], tensor->ne[1]);
  ggml_set_name(copy, tensor->name);
  return copy;
}

void ConvertToBf16(const ggml_tensor* from, ggml_tensor* to) {
  const int64_t width = from->ne[0];
  const ggml_to_float_t to_float =
      ggml_get_type_traits(from->type)->to_float;
  std::vector<float> floats(width);
  for (int64_t row = 0; row < from->ne[1]; ++row) {
    const char* source =
        static_cast<const char*>(from->data) + row * from->nb[1];
    const float* values = reinterpret_cast<const float*>(source);
    if (from->type != GGML_TYPE_F32) {
      to_float(source, floats.data(), width);
      values = floats.data();
    }
    ggml_fp32_to_bf16_row(
        values, static_cast<ggml_bf16_t*>(to->data) + row * width, width);
  }
}

}  // namespace

absl::Status LlamaWeights::FindTensors(const GgufFile& file) {
  const ModelConfig& model = config_.model;
  const int64_t hidden = model.hidden;
  TensorFinder find(file);
  embedding_ = find.Matrix("token_embd.weight", hidden, model.vocabulary);
  output_norm_ = find.Vector("output_norm.weight", hidden);
  output_ = find.Matrix("output.weight", hidden, model.vocabulary, false);
  if (output_ == nullptr) output_ = embedding_;  // tied
  rope_factors_ = find.Vector("rope_freqs.weight", model.head_dim / 2, false);
  for (int i = 0; i < model.layers; ++i) {
    const std::string prefix = absl::StrCat("blk.", i, ".");
    layers_.push_back({
        .attention_norm = find.Vector(prefix + "attn_norm.weight", hidden),
        .q = find.Project(prefix + "attn_q", hidden, config_.q_width()),
        .k = find.Project(prefix + "attn_k", hidden, config_.kv_width()),
        .v = find.Project(prefix + "attn_v", hidden, config_.kv_width()),
        .out = find.Project(prefix + "attn_output", config_.q_width(), hidden),
        .feed_forward_norm = find.Vector(prefix + "ffn_norm.weight", hidden),
        .gate = find.Project(prefix + "ffn_gate", hidden,
                             config_.feed_forward),
        .up = find.Project(prefix + "ffn_up", hidden, config_.feed_forward),
        .down = find.Project(prefix + "ffn_down", config_.feed_forward,
                             hidden),
    });
  }
  return find.status();
}

absl::StatusOr<std::unique_ptr<LlamaWeights>> LlamaWeights::Load(
    const LlamaConfig& config, GgufFile* file, ggml_backend_t backend) {
  std::unique_ptr<LlamaWeights> weights(new LlamaWeights(config));
  FC_RETURN_IF_ERROR(weights->FindTensors(*file));
  weights->tensors_ = file->TakeTensors();
  ggml_context* context = weights->tensors_.get();
  weights->buffer_.reset(ggml_backend_alloc_ctx_tensors(context, backend));
  if (weights->buffer_ == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "model file ", file->path(), ": no memory for its weights"));
  }
  FC_CHECK(ggml_backend_buffer_is_host(weights->buffer_.get()));
  ggml_backend_buffer_set_usage(weights->buffer_.get(),
                                GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  for (ggml_tensor* tensor = ggml_get_first_tensor(context);
       tensor != nullptr; tensor = ggml_get_next_tensor(context, tensor)) {
    FC_RETURN_IF_ERROR(
        file->ReadTensor(ggml_get_name(tensor), tensor->data));
  }
  return weights;
}

absl::Status LlamaWeights::AddBf16Layers(ggml_backend_t backend) {
  constexpr int kMatrices = 7;  // of a layer
  bf16_tensors_.reset(ggml_init(
      {.mem_size = layers_.size() * kMatrices * ggml_tensor_overhead(),
       .mem_buffer = nullptr,
       .no_alloc = true}));
  std::vector<std::pair<const ggml_tensor*, ggml_tensor*>> copies;
  bf16_layers_ = layers_;
  for (LlamaLayer& layer : bf16_layers_) {
    for (Projection* projection :
         {&layer.q, &layer.k, &layer.v, &layer.out, &layer.gate, &layer.up,
          &layer.down}) {
      ggml_tensor* copy =
          DeclareBf16(bf16_tensors_.get(), projection->weight);
      copies.emplace_back(projection->weight, copy);
      projection->weight = copy;
    }
  }
  bf16_buffer_.reset(
      ggml_backend_alloc_ctx_tensors(bf16_tensors_.get(), backend));
  if (bf16_buffer_ == nullptr) {
    return absl::ResourceExhaustedError(
        "no memory for a BF16 copy of the weights");
  }
  ggml_backend_buffer_set_usage(bf16_buffer_.get(),
                                GGML_BACKEND_BUFFER_USAGE_WEIGHTS);
  for (const auto& [from, to] : copies) ConvertToBf16(from, to);
  return absl::OkStatus();
}

}  // namespace forecache
