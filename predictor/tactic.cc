#include "predictor/tactic.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace forecache {
namespace {

// Fewer points than this make no line.
constexpr int kFitPoints = 4;
// How many terms of the tail are summed one by one; then by its integral.
constexpr int kTailTerms = 16;

// log(confidence) = intercept - slope * log(rank), by least squares.
struct PowerLaw {
  double intercept = 0;
  double slope = 0;

  double At(double rank) const {
    return std::exp(intercept - slope * std::log(rank));
  }
  // The sum from first to last, as an integral from the middle between ranks.
  double Sum(double first, double last) const {
    const double low = first - 0.5, high = last + 0.5, power = 1 - slope;
    if (high <= low) return 0;
    if (std::abs(power) < 1e-6) {
      return std::exp(intercept) * std::log(high / low);
    }
    return std::exp(intercept) *
           (std::pow(high, power) - std::pow(low, power)) / power;
  }
};

PowerLaw Fit(const std::vector<BlockChoice>& choices, size_t first) {
  double n = 0, x_sum = 0, y_sum = 0, xx_sum = 0, xy_sum = 0;
  for (size_t i = first; i < choices.size(); ++i) {
    if (choices[i].confidence <= 0) break;
    const double x = std::log(static_cast<double>(i + 1));
    const double y = std::log(static_cast<double>(choices[i].confidence));
    n += 1;
    x_sum += x;
    y_sum += y;
    xx_sum += x * x;
    xy_sum += x * y;
  }
  if (n == 0) return {-INFINITY, 0};
  const double spread = n * xx_sum - x_sum * x_sum;
  // Ranked, so that the slope is never below zero.
  const double slope =
      spread > 0 ? std::max(-(n * xy_sum - x_sum * y_sum) / spread, 0.0) : 0;
  return {(y_sum + slope * x_sum) / n, slope};
}

}  // namespace

float FittedTail(const std::vector<BlockChoice>& choices, int blocks) {
  const size_t chosen = choices.size();
  if (chosen == 0 || blocks <= chosen || choices.back().confidence <= 0) {
    return 0;  // those that follow are no better than 0
  }
  const size_t first =
      chosen >= 2 * kFitPoints ? chosen / 2 : chosen - std::min<size_t>(
                                                  chosen, kFitPoints);
  const PowerLaw law = Fit(choices, first);
  // No block after the worst chosen is better than it.
  const double most = choices.back().confidence;
  double tail = 0;
  const int near_end = std::min<int>(blocks, chosen + kTailTerms);
  for (int rank = chosen + 1; rank <= near_end; ++rank) {
    tail += std::min(law.At(rank), most);
  }
  tail += std::min(law.Sum(near_end + 1, blocks), most * (blocks - near_end));
  return static_cast<float>(tail);
}

TacticPredictor::TacticPredictor(const Shape& shape, float share)
    : share_(share), history_(shape) {
  FC_CHECK(share > 0 && share <= 1) << "share=" << share;
}

void TacticPredictor::Observe(int layer, int kv_head, const AttentionRow& row) {
  history_.Replace(layer, kv_head, row);
}

void TacticPredictor::Predict(int layer, int kv_head, const ChoiceRange& range,
                              int count, std::vector<BlockChoice>* choices) {
  top_.Select(history_.Row(layer, kv_head), range, count, choices);
  float chosen = 0;
  for (const BlockChoice& choice : *choices) chosen += choice.confidence;
  if (chosen == 0) return;  // nothing is known: all that may be had
  const float wanted =
      share_ * (chosen + FittedTail(*choices, range.end - range.first));
  float sum = 0;
  size_t needed = 0;
  while (needed < choices->size() && sum < wanted) {
    sum += (*choices)[needed++].confidence;
  }
  choices->resize(needed);
}

}  // namespace forecache
