#include "worker/query_estimates.h"

#include <cmath>

namespace forecache {
namespace {

constexpr float kNewest = 0.1f;  // weight of the newest cosine

float Cosine(std::span<const float> a, std::span<const float> b) {
  double dot = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    dot += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return aa > 0 && bb > 0 ? static_cast<float>(dot / std::sqrt(aa * bb)) : 0;
}

}  // namespace

bool QueryEstimates::Take(int layer, std::span<const float> estimate) {
  estimate_.assign(estimate.begin(), estimate.end());
  layer_ = layer;
  ahead_[layer] = agreement_[layer] >= kQueryAgreementMin;
  return ahead_[layer];
}

bool QueryEstimates::Meet(int layer, std::span<const float> query) {
  if (layer_ != layer) return false;
  layer_ = -1;
  const float cosine = Cosine(estimate_, query);
  float& agreement = agreement_[layer];
  agreement += agreement == 0 ? cosine : kNewest * (cosine - agreement);
  return ahead_[layer];
}

}  // namespace forecache
