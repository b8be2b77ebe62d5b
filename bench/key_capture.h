// Keys and queries of a real model on a real text: what codes are judged by.
#ifndef FORECACHE_BENCH_KEY_CAPTURE_H_
#define FORECACHE_BENCH_KEY_CAPTURE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/half.h"
#include "kernels/testing/data.h"
#include "worker/model/model_runtime.h"

namespace forecache {

// After RoPE.  The keys are those of whole segments, the queries those of
// later tokens: each query sees every key.
struct KeyCapture {
  const std::byte* Keys(int layer, int kv_head) const {
    return keys[size_t(layer) * kv_heads + kv_head].get();
  }
  // [group][head_dim] of one query token.
  const float* Queries(int layer, int query, int kv_head) const {
    return queries[layer].data() +
           (size_t(query) * kv_heads + kv_head) * group * head_dim;
  }

  int layers = 0;
  int kv_heads = 0;
  int group = 0;
  int head_dim = 0;
  int tokens = 0;         // keys of each plane, a multiple of 256
  int query_tokens = 0;
  std::vector<AlignedBytes> keys;           // f16 [tokens][head_dim] each
  std::vector<std::vector<float>> queries;  // of each layer
};

// Runs `text` through the model with exact attention.  Keeps the keys of all
// segments that end `query_span` tokens before its end, and the queries of
// every `query_step`th of the last `query_span` tokens.  Errors are the
// model's.
// REQUIRES: at least a segment and `query_span` tokens.
absl::StatusOr<KeyCapture> CaptureKeys(ModelRuntime* model,
                                       std::span<const int32_t> text,
                                       int query_span, int query_step);

}  // namespace forecache

#endif  // FORECACHE_BENCH_KEY_CAPTURE_H_
