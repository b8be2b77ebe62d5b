#include "tests/worker/model/tiny_model.h"

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/rng.h"
#include "ggml-cpp.h"

namespace forecache {
namespace {

// Threads: one thread at a time.
class Writer {
 public:
  explicit Writer(const TinyModel& model)
      : model_(model),
        rng_(model.seed),
        context_(ggml_init({.mem_size = size_t{8} << 20,
                            .mem_buffer = nullptr,
                            .no_alloc = false})),
        file_(gguf_init_empty()) {}

  void Write(const std::string& path) {
    Fields();
    Tensors();
    FC_CHECK(gguf_write_to_file(file_.get(), path.c_str(), false)) << path;
  }

 private:
  bool Kept(const std::string& key) const {
    return key != model_.left_out_field;
  }
  void Integer(const std::string& name, uint32_t value) {
    const std::string key = model_.architecture + "." + name;
    if (Kept(key)) gguf_set_val_u32(file_.get(), key.c_str(), value);
  }

  void Fields() {
    gguf_set_val_str(file_.get(), "general.architecture",
                     model_.architecture.c_str());
    Integer("block_count", model_.layers);
    Integer("embedding_length", model_.hidden);
    Integer("feed_forward_length", model_.feed_forward);
    Integer("attention.head_count", model_.query_heads);
    Integer("attention.head_count_kv", model_.kv_heads);
    Integer("context_length", model_.context_tokens);
    if (model_.experts > 0) Integer("expert_count", model_.experts);
    const std::string epsilon =
        model_.architecture + ".attention.layer_norm_rms_epsilon";
    if (Kept(epsilon)) {
      gguf_set_val_f32(file_.get(), epsilon.c_str(), 1e-5f);
    }
    if (!model_.rope_scaling.empty()) {
      gguf_set_val_str(file_.get(), "llama.rope.scaling.type",
                       model_.rope_scaling.c_str());
    }
  }

  // Normal values of `deviation` around `mean`.
  void Tensor(const std::string& name, int64_t in, int64_t out, float mean,
              float deviation) {
    if (name == model_.left_out_tensor) return;
    if (name == model_.misshapen_tensor) ++in;
    ggml_tensor* tensor =
        out > 0 ? ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, in, out)
                : ggml_new_tensor_1d(context_.get(), GGML_TYPE_F32, in);
    ggml_set_name(tensor, name.c_str());
    float* values = static_cast<float*>(tensor->data);
    for (int64_t i = 0; i < ggml_nelements(tensor); ++i) {
      values[i] = mean + deviation * rng_.Normal();
    }
    gguf_add_tensor(file_.get(), tensor);
  }

  void Project(const std::string& name, int64_t in, int64_t out) {
    Tensor(name + ".weight", in, out, 0, 0.2f);
    if (model_.biases) Tensor(name + ".bias", out, 0, 0, 0.5f);
  }

  void Tensors() {
    const int hidden = model_.hidden;
    const int dim = hidden / model_.query_heads;
    const int kv_width = model_.kv_heads * dim;
    Tensor("token_embd.weight", hidden, model_.vocabulary, 0, 1);
    Tensor("output_norm.weight", hidden, 0, 1, 0.1f);
    for (int i = 0; i < model_.layers; ++i) {
      const std::string layer = absl::StrCat("blk.", i, ".");
      Tensor(layer + "attn_norm.weight", hidden, 0, 1, 0.1f);
      Project(layer + "attn_q", hidden, hidden);
      Project(layer + "attn_k", hidden, kv_width);
      Project(layer + "attn_v", hidden, kv_width);
      Project(layer + "attn_output", hidden, hidden);
      Tensor(layer + "ffn_norm.weight", hidden, 0, 1, 0.1f);
      Project(layer + "ffn_gate", hidden, model_.feed_forward);
      Project(layer + "ffn_up", hidden, model_.feed_forward);
      Project(layer + "ffn_down", model_.feed_forward, hidden);
    }
    if (model_.untied_output) {
      Tensor("output.weight", hidden, model_.vocabulary, 0, 1);
    }
    if (model_.rope_factors) {
      Tensor("rope_freqs.weight", dim / 2, 0, 1, 0);
    }
  }

  const TinyModel& model_;
  Rng rng_;
  ggml_context_ptr context_;
  gguf_context_ptr file_;
};

}  // namespace

void WriteTinyModel(const TinyModel& model, const std::string& path) {
  Writer(model).Write(path);
}

}  // namespace forecache
