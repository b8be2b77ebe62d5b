// The specification of attention: scalar, in f64, nothing clever.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "common/half.h"
#include "kernels/arguments.h"
#include "kernels/attention.h"

namespace forecache {
namespace {

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

struct Token {
  const uint16_t* key;
  const uint16_t* value;
};

Token TokenAt(const SlotMemory& memory, const PageTable& table, int t) {
  const size_t row = size_t(t % kPageTokens) * memory.head_dim;
  return {PageKeys(memory, table, t / kPageTokens) + row,
          PageValues(memory, table, t / kPageTokens) + row};
}

// One query over the first `tokens` tokens of a table.  Returns the
// log-sum-exp; `page_max` may be null.
double AttendOne(const SlotMemory& memory, const PageTable& table, int tokens,
                 const float* q, double scale, float* out, float* page_max) {
  std::vector<double> logits(tokens);
  double largest = kMinusInfinity;
  for (int t = 0; t < tokens; ++t) {
    const uint16_t* key = TokenAt(memory, table, t).key;
    double dot = 0;
    for (int c = 0; c < memory.head_dim; ++c) {
      dot += double{q[c]} * KvToFloat(memory.type, key[c]);
    }
    logits[t] = dot * scale;
    largest = std::max(largest, logits[t]);
    if (page_max == nullptr) continue;
    float& slot = page_max[t / kPageTokens];
    const float logit = static_cast<float>(logits[t]);
    slot = t % kPageTokens == 0 ? logit : std::max(slot, logit);
  }
  double sum = 0;
  std::vector<double> mean(memory.head_dim, 0.0);
  for (int t = 0; t < tokens; ++t) {
    const double weight = std::exp(logits[t] - largest);
    sum += weight;
    const uint16_t* value = TokenAt(memory, table, t).value;
    for (int c = 0; c < memory.head_dim; ++c) {
      mean[c] += weight * KvToFloat(memory.type, value[c]);
    }
  }
  for (int c = 0; c < memory.head_dim; ++c) {
    out[c] = tokens == 0 ? 0.0f : static_cast<float>(mean[c] / sum);
  }
  return tokens == 0 ? kMinusInfinity : largest + std::log(sum);
}

}  // namespace

void DecodeAttentionRef(const DecodeAttention& args) {
  CheckArguments(args);
  for (int h = 0; h < args.kv_heads; ++h) {
    const PageTable& table = args.tables[h];
    for (int g = 0; g < args.group; ++g) {
      const size_t head = size_t(h) * args.group + g;
      float* page_max = args.page_max == nullptr
                            ? nullptr
                            : args.page_max[h] + size_t(g) * table.pages;
      const double lse = AttendOne(
          args.memory, table, TableTokens(table),
          args.q + head * args.memory.head_dim, args.scale,
          args.out + head * args.memory.head_dim, page_max);
      if (args.lse != nullptr) args.lse[head] = static_cast<float>(lse);
    }
  }
}

void ChunkAttentionRef(const ChunkAttention& args) {
  CheckArguments(args);
  for (int i = 0; i < args.queries; ++i) {
    for (int h = 0; h < args.kv_heads; ++h) {
      for (int g = 0; g < args.group; ++g) {
        const size_t row = (size_t(i) * args.kv_heads + h) * args.group + g;
        AttendOne(args.memory, args.tables[h], args.first_position + i + 1,
                  args.q + row * args.memory.head_dim, args.scale,
                  args.out + row * args.memory.head_dim, nullptr);
      }
    }
  }
}

void MergeAttention(int heads, int head_dim, float* out_a, float* lse_a,
                    const float* out_b, const float* lse_b) {
  for (int h = 0; h < heads; ++h) {
    const float largest = std::max(lse_a[h], lse_b[h]);
    if (std::isinf(largest) && largest < 0) continue;  // nothing on both sides
    const float weight_a = std::exp(lse_a[h] - largest);
    const float weight_b = std::exp(lse_b[h] - largest);
    const float sum = weight_a + weight_b;
    float* a = out_a + size_t(h) * head_dim;
    const float* b = out_b + size_t(h) * head_dim;
    for (int c = 0; c < head_dim; ++c) {
      a[c] = (weight_a * a[c] + weight_b * b[c]) / sum;
    }
    lse_a[h] = largest + std::log(sum);
  }
}

}  // namespace forecache
