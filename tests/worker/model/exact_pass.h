// Plain exact attention around a ModelRuntime: the reference of these tests.
#ifndef FORECACHE_TESTS_WORKER_MODEL_EXACT_PASS_H_
#define FORECACHE_TESTS_WORKER_MODEL_EXACT_PASS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "worker/model/model_runtime.h"

namespace forecache {

// What attention rounds to f16 on its way; its sums are f32 in any case.
enum class AttentionRounding {
  kNothing,    // as llama.cpp with its keys and values in f32
  kCached,     // keys and values: as the service
  kAllInputs,  // queries and probabilities too: as llama.cpp with them in f16
};

// Keeps all keys and values and attends to all of them, independently of
// //kernels.
//
// Threads: one thread at a time.
class ExactPass {
 public:
  explicit ExactPass(ModelRuntime* model,
                     AttentionRounding rounding = AttentionRounding::kCached);

  // One pass over `tokens` behind those of the earlier calls.
  std::vector<float> Run(std::span<const int32_t> tokens, LogitRows rows);

  int position() const { return position_; }

 private:
  void Keep(int layer, const LayerQkv& qkv);
  void Attend(int layer, int tokens, std::span<const float> q);

  ModelRuntime* const model_;
  const AttentionRounding rounding_;
  int position_ = 0;
  // Of each layer, [position][kv_heads][head_dim].
  std::vector<std::vector<float>> keys_, values_;
  std::vector<float> queries_, attention_;
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_WORKER_MODEL_EXACT_PASS_H_
