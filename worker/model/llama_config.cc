// Reads what a GGUF file says about its model, and refuses what the graphs
// would compute wrongly.
#include <algorithm>

#include "common/limits.h"
#include "common/status.h"
#include "worker/model/llama_weights.h"

namespace forecache {
namespace {

constexpr int64_t kWidthMax = 1 << 20;  // of a layer, any of its vectors

// Reads integer fields under "llama.", each within its own bounds.
//
// Threads: one thread at a time.
class Fields {
 public:
  explicit Fields(const GgufFile& file) : file_(file) {}

  absl::Status Read(const std::string& name, int64_t most, int* value) const {
    const std::string key = "llama." + name;
    FC_ASSIGN_OR_RETURN(const int64_t read, file_.Integer(key));
    if (read < 1 || read > most) {
      return file_.Damaged(absl::StrCat("the field ", key, " is ", read,
                                        ", not within 1 to ", most));
    }
    *value = static_cast<int>(read);
    return absl::OkStatus();
  }

  // Leaves `value` alone when the field is absent.
  absl::Status ReadIfThere(const std::string& name, int64_t most,
                           int* value) const {
    if (!file_.Has("llama." + name)) return absl::OkStatus();
    return Read(name, most, value);
  }

 private:
  const GgufFile& file_;
};

absl::Status CheckArchitecture(const GgufFile& file, std::string* name) {
  FC_ASSIGN_OR_RETURN(*name, file.String("general.architecture"));
  if (*name != "llama") {
    return file.Unsupported(absl::StrCat(
        "its architecture is \"", *name, "\"; this runtime knows \"llama\""));
  }
  FC_ASSIGN_OR_RETURN(const int64_t experts,
                      file.Integer("llama.expert_count", 0));
  if (experts != 0) {
    return file.Unsupported(absl::StrCat("a mixture of ", experts,
                                         " experts; only dense models work"));
  }
  // Softmax is scaled by 1 / sqrt(head_dim) everywhere.
  FC_ASSIGN_OR_RETURN(const float attention_scale,
                      file.Float("llama.attention.scale", 0));
  if (attention_scale != 0) {
    return file.Unsupported("an attention scale of its own");
  }
  return absl::OkStatus();
}

absl::Status ReadGeometry(const GgufFile& file, LlamaConfig* config) {
  const Fields fields(file);
  ModelConfig& model = config->model;
  FC_RETURN_IF_ERROR(fields.Read("block_count", kLayersMax, &model.layers));
  FC_RETURN_IF_ERROR(
      fields.Read("embedding_length", kWidthMax, &model.hidden));
  FC_RETURN_IF_ERROR(fields.Read("feed_forward_length", kWidthMax,
                                 &config->feed_forward));
  FC_RETURN_IF_ERROR(fields.Read("attention.head_count",
                                 kKvHeadsMax * kGroupMax,
                                 &model.query_heads));
  model.kv_heads = model.query_heads;
  FC_RETURN_IF_ERROR(fields.ReadIfThere("attention.head_count_kv", kKvHeadsMax,
                                        &model.kv_heads));
  FC_RETURN_IF_ERROR(fields.Read("context_length", kContextTokensMax,
                                 &model.context_tokens));
  model.head_dim = model.hidden / model.query_heads;
  FC_RETURN_IF_ERROR(fields.ReadIfThere("attention.key_length", kHeadDimMax,
                                        &model.head_dim));
  int value_dim = model.head_dim;
  int rope_dim = model.head_dim;
  FC_RETURN_IF_ERROR(
      fields.ReadIfThere("attention.value_length", kHeadDimMax, &value_dim));
  FC_RETURN_IF_ERROR(
      fields.ReadIfThere("rope.dimension_count", kHeadDimMax, &rope_dim));
  if (model.kv_heads > kKvHeadsMax ||
      model.query_heads % model.kv_heads != 0 || model.group() > kGroupMax) {
    return file.Unsupported(absl::StrCat(
        model.query_heads, " query heads for ", model.kv_heads,
        " KV heads; at most ", kGroupMax, " each work, at most ", kKvHeadsMax,
        " KV heads"));
  }
  if (model.head_dim < 16 || model.head_dim > kHeadDimMax ||
      model.head_dim % 16 != 0) {
    return file.Unsupported(absl::StrCat(
        "heads of ", model.head_dim, "; multiples of 16 up to ", kHeadDimMax,
        " work"));
  }
  if (value_dim != model.head_dim || rope_dim != model.head_dim) {
    return file.Unsupported(absl::StrCat(
        "key, value and rotary dimensions ", model.head_dim, ", ", value_dim,
        " and ", rope_dim, "; only equal ones work"));
  }
  return absl::OkStatus();
}

absl::Status ReadRope(const GgufFile& file, LlamaConfig* config) {
  FC_ASSIGN_OR_RETURN(config->model.rope_base,
                      file.Float("llama.rope.freq_base", 10000.0f));
  FC_ASSIGN_OR_RETURN(const std::string scaling,
                      file.String("llama.rope.scaling.type", "none"));
  if (scaling != "none" && scaling != "linear") {
    return file.Unsupported(absl::StrCat(
        "RoPE scaling of type \"", scaling,
        "\"; \"none\", \"linear\" and frequency factors work"));
  }
  FC_ASSIGN_OR_RETURN(const float old_factor,
                      file.Float("llama.rope.scale_linear", 0));
  FC_ASSIGN_OR_RETURN(float factor,
                      file.Float("llama.rope.scaling.factor", old_factor));
  if (scaling == "linear" && factor > 0) config->rope_scale = 1 / factor;
  config->rope_original_context = config->model.context_tokens;
  return Fields(file).ReadIfThere("rope.scaling.original_context_length",
                                  kContextTokensMax,
                                  &config->rope_original_context);
}

}  // namespace

absl::StatusOr<LlamaConfig> ReadLlamaConfig(const GgufFile& file) {
  LlamaConfig config;
  FC_RETURN_IF_ERROR(CheckArchitecture(file, &config.model.architecture));
  FC_ASSIGN_OR_RETURN(config.model.name, file.String("general.name", ""));
  FC_RETURN_IF_ERROR(ReadGeometry(file, &config));
  FC_RETURN_IF_ERROR(ReadRope(file, &config));
  FC_ASSIGN_OR_RETURN(
      config.rms_epsilon,
      file.Float("llama.attention.layer_norm_rms_epsilon"));

  const ggml_tensor* embedding = file.FindTensor("token_embd.weight");
  if (embedding == nullptr) {
    return file.Damaged("lacks the tensor token_embd.weight");
  }
  config.model.vocabulary = static_cast<int>(embedding->ne[1]);
  FC_ASSIGN_OR_RETURN(
      const int64_t stated,
      file.Integer("llama.vocab_size", config.model.vocabulary));
  if (stated != embedding->ne[1]) {
    return file.Damaged(absl::StrCat("llama.vocab_size is ", stated,
                                     ", but token_embd.weight has ",
                                     embedding->ne[1], " rows"));
  }
  return config;
}

}  // namespace forecache
