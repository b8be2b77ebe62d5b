// Plain exact attention around a ModelRuntime: the reference of these tests.
#ifndef FORECACHE_TESTS_WORKER_MODEL_EXACT_PASS_H_
#define FORECACHE_TESTS_WORKER_MODEL_EXACT_PASS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "worker/model/model_runtime.h"

namespace forecache {

// Keeps all keys and values, rounded to f16, and attends to all of them with
// f32 arithmetic, independently of //kernels.
//
// Threads: one thread at a time.
class ExactPass {
 public:
  explicit ExactPass(ModelRuntime* model);

  // One pass over `tokens` behind those of the earlier calls.
  std::vector<float> Run(std::span<const int32_t> tokens, LogitRows rows);

  int position() const { return position_; }

 private:
  void Keep(int layer, const LayerQkv& qkv);
  void Attend(int layer, int tokens, std::span<const float> q);

  ModelRuntime* const model_;
  int position_ = 0;
  // Of each layer, [position][kv_heads][head_dim].
  std::vector<std::vector<float>> keys_, values_;
  std::vector<float> attention_;
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_WORKER_MODEL_EXACT_PASS_H_
