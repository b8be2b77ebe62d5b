#include "predictor/adaptive.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/check.h"
#include "common/half.h"

namespace forecache {
namespace {

// Nobody waits longer than this, if the budget allows: what looks calm may
// have changed where nothing was observed.
constexpr int kOldestRow = 32;
// What a head that misses nothing is worth beside one that misses everything.
constexpr float kCalm = 0.05f;
// How far a query turns in a token, without any to look at.
constexpr float kDriftPerToken = 0.05f;
constexpr float kFirstThreshold = 0.02f;
// How fast the threshold follows the credit that is left, a token, and how
// much higher it is at once when there is none.
constexpr float kThresholdGain = 0.3f;
constexpr float kThriftiness = 3.0f;

float CosineDistance(const uint16_t* a, const uint16_t* b, size_t dim) {
  float dot = 0, aa = 0, bb = 0;
  for (size_t c = 0; c < dim; ++c) {
    const float x = BF16ToFloat(a[c]), y = BF16ToFloat(b[c]);
    dot += x * y;
    aa += x * x;
    bb += y * y;
  }
  const float distance = 1 - dot / std::sqrt(aa * bb);
  return std::isfinite(distance) ? std::max(distance, 0.0f) : 1.0f;
}

}  // namespace

AdaptivePredictor::AdaptivePredictor(std::unique_ptr<Predictor> policy,
                                     const Shape& shape,
                                     const AdaptiveOptions& options)
    : shape_(shape),
      share_(options.share),
      policy_(std::move(policy)),
      heads_(size_t{1} * shape.layers * shape.kv_heads),
      clock_(shape),
      credit_(static_cast<float>(heads_.size())),
      threshold_(kFirstThreshold) {
  FC_CHECK(share_ > 0 && share_ <= 1) << "share=" << share_;
  if (options.profile.empty()) return;
  FC_CHECK(options.profile.size() == heads_.size())
      << options.profile.size() << " worths for " << heads_.size() << " heads";
  float sum = 0;
  for (const float worth : options.profile) sum += worth;
  if (!(sum > 0)) return;
  for (size_t i = 0; i < heads_.size(); ++i) {
    heads_[i].worth = options.profile[i] * heads_.size() / sum;
  }
}

AdaptivePredictor::Head& AdaptivePredictor::HeadAt(int layer, int kv_head) {
  return heads_[HeadIndex(shape_, layer, kv_head)];
}

size_t AdaptivePredictor::Bytes(const Head& head) const {
  return (head.query.capacity() + head.probed.capacity()) * sizeof(uint16_t) +
         head.chosen.capacity() * sizeof(BlockChoice);
}

void AdaptivePredictor::ObserveQuery(int layer, int kv_head,
                                     std::span<const float> query) {
  policy_->ObserveQuery(layer, kv_head, query);
  Head& head = HeadAt(layer, kv_head);
  const size_t group = shape_.group, dim = query.size() / group;
  FC_CHECK(query.size() == dim * group) << query.size() << " floats";
  bytes_ -= Bytes(head);
  head.query.resize(query.size());
  bytes_ += Bytes(head);
  std::transform(query.begin(), query.end(), head.query.begin(), FloatToBF16);
  if (head.probed.size() != head.query.size()) return;
  head.drift = 0;
  for (size_t j = 0; j < group; ++j) {
    head.drift += CosineDistance(&head.query[j * dim], &head.probed[j * dim],
                                 dim) / static_cast<float>(group);
  }
}

// How well the last choice did, as far as the row tells.
void AdaptivePredictor::Judge(const AttentionRow& row, Head* head) {
  float chosen = 0, change = 0;
  for (const BlockChoice& choice : head->chosen) {
    if (choice.block >= row.blocks) continue;
    if (!row.seen.empty() && !std::binary_search(row.seen.begin(),
                                                 row.seen.end(),
                                                 choice.block)) {
      continue;
    }
    float now;
    MeanOverGroup(row, shape_.group, choice.block, 1, &now);
    if (!std::isfinite(now)) continue;
    chosen += now;
    change += std::abs(now - choice.confidence);
  }
  head->change = std::min(change / (chosen + 1e-6f), 1.0f);
  if (!row.seen.empty()) return;
  float all = 0;  // of what could have been chosen
  const int end = std::min(head->range.end, row.blocks);
  for (int j = 0; j < shape_.group; ++j) {
    const float* scores = row.probabilities.data() + size_t{1} * j * row.blocks;
    for (int b = head->range.first; b < end; ++b) all += scores[b];
  }
  all /= static_cast<float>(shape_.group);
  const float missed = std::isfinite(all) ? all - chosen : 0.0f;
  head->missed = std::clamp(missed, 0.0f, 1.0f);
}

void AdaptivePredictor::Observe(int layer, int kv_head,
                                const AttentionRow& row) {
  policy_->Observe(layer, kv_head, row);
  Head& head = HeadAt(layer, kv_head);
  Judge(row, &head);
  // The first row of a head is not paid for.
  const bool is_first = clock_.Age(layer, kv_head) == ProbeClock::kNever;
  clock_.Saw(layer, kv_head, row);
  if (!row.seen.empty()) return;
  head.fresh = !is_first;
  bytes_ -= Bytes(head);
  head.probed = head.query;
  bytes_ += Bytes(head);
  head.drift = 0;
}

void AdaptivePredictor::Predict(int layer, int kv_head,
                                const ChoiceRange& range, int count,
                                std::vector<BlockChoice>* choices) {
  policy_->Predict(layer, kv_head, range, count, choices);
  Head& head = HeadAt(layer, kv_head);
  bytes_ -= Bytes(head);
  head.chosen.assign(choices->begin(), choices->end());
  bytes_ += Bytes(head);
  head.range = range;
  const float heads = static_cast<float>(heads_.size());
  const float spent = head.fresh ? 1.0f : 0.0f;
  credit_ = std::min(credit_ + share_ - spent, heads);
  threshold_ *= std::exp(kThresholdGain / heads * (0.5f - credit_ / heads));
  threshold_ = std::clamp(threshold_, 1e-6f, 1e3f);
  head.fresh = false;
  clock_.Tick(layer, kv_head);
}

float AdaptivePredictor::Urgency(int layer, int kv_head) const {
  const Head& head = heads_[HeadIndex(shape_, layer, kv_head)];
  const int age = clock_.Age(layer, kv_head);
  const float drift = head.drift + kDriftPerToken * std::min(age, kOldestRow);
  return head.worth * (kCalm + head.missed + 0.5f * head.change) * drift;
}

float AdaptivePredictor::Threshold() const {
  const float full = credit_ / static_cast<float>(heads_.size());
  return threshold_ * std::exp(kThriftiness * (0.5f - full));
}

bool AdaptivePredictor::WantsProbeOfHead(int layer, int kv_head) const {
  if (!policy_->WantsProbeOfHead(layer, kv_head)) return false;
  const int age = clock_.Age(layer, kv_head);
  if (age == ProbeClock::kNever) return true;
  if (credit_ < 1) return false;
  return age >= kOldestRow || Urgency(layer, kv_head) >= Threshold();
}

bool AdaptivePredictor::WantsProbe(int layer) const {
  if (!policy_->WantsProbe(layer)) return false;
  const int oldest = clock_.OldestOfLayer(layer);
  if (oldest == ProbeClock::kNever) return true;
  if (credit_ < shape_.kv_heads) return false;  // one probe serves them all
  float urgency = 0;
  for (int head = 0; head < shape_.kv_heads; ++head) {
    urgency += Urgency(layer, head) / static_cast<float>(shape_.kv_heads);
  }
  return oldest >= kOldestRow || urgency >= Threshold();
}

}  // namespace forecache
