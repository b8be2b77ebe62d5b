// llama.cpp itself, whole, as the reference that the runtime is compared with.
#ifndef FORECACHE_TESTS_WORKER_MODEL_LLAMA_REFERENCE_H_
#define FORECACHE_TESTS_WORKER_MODEL_LLAMA_REFERENCE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace forecache {

enum class LlamaKv { kF16, kF32 };

// Teacher-forced logits [tokens][vocabulary] of `tokens` from position 0, in
// batches of `batch_tokens`, on one thread, without flash attention.
std::vector<float> LlamaLogits(const std::string& model_path,
                               std::span<const int32_t> tokens, LlamaKv kv,
                               int batch_tokens);

}  // namespace forecache

#endif  // FORECACHE_TESTS_WORKER_MODEL_LLAMA_REFERENCE_H_
