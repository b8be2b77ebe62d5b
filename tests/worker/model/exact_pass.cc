#include "tests/worker/model/exact_pass.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "common/half.h"

namespace forecache {
namespace {

float Rounded(float value) { return F16ToFloat(FloatToF16(value)); }

void Append(std::span<const float> values, bool rounded,
            std::vector<float>* to) {
  for (const float value : values) {
    to->push_back(rounded ? Rounded(value) : value);
  }
}

// One query over `tokens` keys and values, each `stride` floats apart.
void AttendRow(const float* q, const float* keys, const float* values,
               int tokens, int stride, int dim, bool rounded_probabilities,
               float* out) {
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  std::vector<float> weights(tokens);
  float largest = -INFINITY;
  for (int t = 0; t < tokens; ++t) {
    float dot = 0;
    for (int c = 0; c < dim; ++c) dot += q[c] * keys[t * stride + c];
    weights[t] = dot * scale;
    largest = std::max(largest, weights[t]);
  }
  float sum = 0;
  for (float& weight : weights) sum += weight = std::exp(weight - largest);
  std::fill_n(out, dim, 0.0f);
  for (int t = 0; t < tokens; ++t) {
    float weight = weights[t] / sum;
    if (rounded_probabilities) weight = Rounded(weight);
    for (int c = 0; c < dim; ++c) out[c] += weight * values[t * stride + c];
  }
}

}  // namespace

ExactPass::ExactPass(ModelRuntime* model, AttentionRounding rounding)
    : model_(model),
      rounding_(rounding),
      keys_(model->config().layers),
      values_(model->config().layers) {}

void ExactPass::Keep(int layer, const LayerQkv& qkv) {
  const bool rounded = rounding_ != AttentionRounding::kNothing;
  Append(qkv.k, rounded, &keys_[layer]);
  Append(qkv.v, rounded, &values_[layer]);
}

void ExactPass::Attend(int layer, int tokens, std::span<const float> q) {
  const ModelConfig& config = model_->config();
  const int dim = config.head_dim;
  const int stride = config.kv_heads * dim;
  const bool all = rounding_ == AttentionRounding::kAllInputs;
  queries_.clear();
  Append(q, all, &queries_);
  attention_.resize(q.size());
  for (int row = 0; row < tokens; ++row) {
    for (int head = 0; head < config.query_heads; ++head) {
      const size_t at = (size_t{1} * row * config.query_heads + head) * dim;
      const int kv_at = head / config.group() * dim;
      AttendRow(queries_.data() + at, keys_[layer].data() + kv_at,
                values_[layer].data() + kv_at, position_ + row + 1, stride,
                dim, all, attention_.data() + at);
    }
  }
}

std::vector<float> ExactPass::Run(std::span<const int32_t> tokens,
                                  LogitRows rows) {
  const int n = static_cast<int>(tokens.size());
  auto qkv = model_->Begin(tokens, position_);
  for (int layer = 0;; ++layer) {
    FC_CHECK(qkv.ok()) << qkv.status().ToString();
    Keep(layer, *qkv);
    Attend(layer, n, qkv->q);
    if (layer + 1 == model_->config().layers) break;
    qkv = model_->Next(attention_);
  }
  position_ += n;
  const auto logits = model_->Finish(attention_, rows);
  FC_CHECK(logits.ok()) << logits.status().ToString();
  return {logits->begin(), logits->end()};
}

}  // namespace forecache
