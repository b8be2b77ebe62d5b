#include "kernels/tail_attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/check.h"
#include "kernels/attention.h"

// One clone for each instruction set, chosen when the program is loaded: the
// loops are plain enough for the compiler.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define FC_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FC_CLONES
#endif

namespace forecache {
namespace {

constexpr int kLanes = 16;

FC_CLONES float Dot(const float* q, const int8_t* key, int head_dim) {
  float sums[kLanes] = {0};
  for (int c = 0; c < head_dim; c += kLanes) {
    for (int i = 0; i < kLanes; ++i) sums[i] += q[c + i] * key[c + i];
  }
  float sum = 0;
  for (float partial : sums) sum += partial;
  return sum;
}

FC_CLONES void AddScaled(float weight, const int8_t* value, int head_dim,
                         float* out) {
  for (int c = 0; c < head_dim; ++c) out[c] += weight * value[c];
}

// The tail of one query head, into `out` [head_dim]; returns its log-sum-exp,
// -infinity when nothing is left out.
float TailOfHead(const TailAttention& args, int head, const float* q,
                 float* logits, float* out) {
  float high = -std::numeric_limits<float>::infinity();
  for (int cell = 0; cell < args.cells; ++cell) {
    const size_t at = size_t(cell) * args.kv_heads + head;
    logits[cell] = -std::numeric_limits<float>::infinity();
    if (args.left_out[at] == 0) continue;
    logits[cell] =
        args.scale * args.key_scales[at] *
            Dot(q, args.keys + at * args.head_dim, args.head_dim) +
        std::log(static_cast<float>(args.left_out[at]));
    high = std::max(high, logits[cell]);
  }
  std::fill_n(out, args.head_dim, 0.0f);
  if (std::isinf(high)) return high;
  float sum = 0;
  for (int cell = 0; cell < args.cells; ++cell) {
    const float weight = std::exp(logits[cell] - high);
    if (weight == 0) continue;
    const size_t at = size_t(cell) * args.kv_heads + head;
    sum += weight;
    AddScaled(weight * args.value_scales[at],
              args.values + at * args.head_dim, args.head_dim, out);
  }
  for (int c = 0; c < args.head_dim; ++c) out[c] /= sum;
  return high + std::log(sum);
}

}  // namespace

void AddTail(const TailAttention& args) {
  FC_CHECK(args.head_dim % kLanes == 0 && args.head_dim > 0) << args.head_dim;
  std::vector<float> logits(args.cells), out(args.head_dim);
  for (int head = 0; head < args.kv_heads; ++head) {
    for (int j = 0; j < args.group; ++j) {
      const size_t row = size_t(head) * args.group + j;
      const float lse =
          TailOfHead(args, head, args.q + row * args.head_dim, logits.data(),
                     out.data());
      MergeAttention(1, args.head_dim, args.out + row * args.head_dim,
                     args.lse + row, out.data(), &lse);
    }
  }
}

}  // namespace forecache
