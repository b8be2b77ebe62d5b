#include "tests/worker/model/llama_reference.h"

#include <algorithm>
#include <memory>

#include "common/check.h"
#include "llama.h"

namespace forecache {
namespace {

using ModelPtr = std::unique_ptr<llama_model, decltype(&llama_model_free)>;
using ContextPtr = std::unique_ptr<llama_context, decltype(&llama_free)>;

ContextPtr MakeContext(llama_model* model, int tokens, LlamaKv kv,
                       int batch_tokens) {
  llama_context_params params = llama_context_default_params();
  params.n_ctx = tokens;
  params.n_batch = batch_tokens;
  params.n_ubatch = batch_tokens;
  params.n_threads = 1;
  params.n_threads_batch = 1;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  params.type_k = kv == LlamaKv::kF16 ? GGML_TYPE_F16 : GGML_TYPE_F32;
  params.type_v = params.type_k;
  ContextPtr context(llama_init_from_model(model, params), llama_free);
  FC_CHECK(context != nullptr);
  return context;
}

// One batch, the logits of all its rows appended to `logits`.
void DecodeBatch(llama_context* context, std::span<const int32_t> tokens,
                 int position, int vocabulary, std::vector<float>* logits) {
  const int n = static_cast<int>(tokens.size());
  llama_batch batch = llama_batch_init(n, /*embd=*/0, /*n_seq_max=*/1);
  batch.n_tokens = n;
  for (int i = 0; i < n; ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = position + i;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = true;
  }
  FC_CHECK(llama_decode(context, batch) == 0);
  llama_batch_free(batch);
  const float* rows = llama_get_logits(context);
  logits->insert(logits->end(), rows, rows + size_t{1} * n * vocabulary);
}

}  // namespace

std::vector<float> LlamaLogits(const std::string& model_path,
                               std::span<const int32_t> tokens, LlamaKv kv,
                               int batch_tokens) {
  llama_backend_init();
  ModelPtr model(llama_model_load_from_file(model_path.c_str(),
                                            llama_model_default_params()),
                 llama_model_free);
  FC_CHECK(model != nullptr) << model_path;
  const int n = static_cast<int>(tokens.size());
  const ContextPtr context = MakeContext(model.get(), n, kv, batch_tokens);
  const int vocabulary =
      llama_vocab_n_tokens(llama_model_get_vocab(model.get()));
  std::vector<float> logits;
  for (int at = 0; at < n; at += batch_tokens) {
    DecodeBatch(context.get(),
                tokens.subspan(at, std::min(batch_tokens, n - at)), at,
                vocabulary, &logits);
  }
  return logits;
}

}  // namespace forecache
