// The tail: how what is not resident still weighs in.
//
// The context is cut into cells of 64 tokens; a cell keeps the mean key and the
// mean value of its tokens, each in 8 bits a channel with one scale.  Where n
// tokens of a cell are not attended, the cell stands for them: one more key
// whose logit gets log(n) added, one more value.  Natural logarithms, f32
// accumulation.
#ifndef FORECACHE_KERNELS_TAIL_ATTENTION_H_
#define FORECACHE_KERNELS_TAIL_ATTENTION_H_

#include <cstdint>

namespace forecache {

inline constexpr int kTailCellTokens = 64;

// The cells of one layer, and what attention over the resident blocks gave.
struct TailAttention {
  int kv_heads = 0;
  int group = 0;
  int head_dim = 0;  // a multiple of 16
  int cells = 0;     // of each KV head
  const int8_t* keys = nullptr;    // [cells][kv_heads][head_dim]
  const int8_t* values = nullptr;  // the same
  // A channel is its code times this: [cells][kv_heads].
  const float* key_scales = nullptr;
  const float* value_scales = nullptr;
  // How many tokens of each cell are not attended, 0..64: [cells][kv_heads].
  const uint8_t* left_out = nullptr;
  const float* q = nullptr;  // [kv_heads][group][head_dim], unscaled
  float scale = 0;
  float* out = nullptr;  // [kv_heads][group][head_dim]: in and out
  float* lse = nullptr;  // [kv_heads][group]: in and out
};

// Adds the tail to `out` and `lse`.
//
// Threads: safe to call from any thread on distinct outputs.
void AddTail(const TailAttention& args);

}  // namespace forecache

#endif  // FORECACHE_KERNELS_TAIL_ATTENTION_H_
