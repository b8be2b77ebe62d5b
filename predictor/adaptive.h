// Adaptive probing: asks for probes only where fresh scores are worth it.
//
// A wrapper around any policy: it passes everything on, and answers WantsProbe
// itself, from what is known for free:
//   - how far the query turned away from the one that was last probed,
//   - how much of the last whole row lay outside what had been chosen for it,
//   - how much the scores of the chosen blocks changed since they were chosen,
//   - tokens since the last probe,
//   - a profile of the model: what stale scores cost each (layer, KV head).
#ifndef FORECACHE_PREDICTOR_ADAPTIVE_H_
#define FORECACHE_PREDICTOR_ADAPTIVE_H_

#include <memory>
#include <string>
#include <vector>

#include "predictor/predictor.h"
#include "predictor/probe_clock.h"
#include "predictor/selection.h"

namespace forecache {

struct AdaptiveOptions {
  float share = 0.5f;  // of all probes, at most; in (0, 1]
  // Worth of a fresh row, [layers * kv_heads], not negative, any scale; empty:
  // all alike.
  std::vector<float> profile;
};

// The budget is hard: over n tokens no more than share * n * heads probes are
// wanted, beside the first of each head and a reserve of one token's.  Within
// it, a threshold moves with the credit that is left, until as many (layer, KV
// head)s are above it as the budget pays for.
//
// Threads: one thread at a time.
class AdaptivePredictor : public Predictor {
 public:
  // REQUIRES: share in (0, 1]; the profile is empty or has its size.
  AdaptivePredictor(std::unique_ptr<Predictor> policy, const Shape& shape,
                    const AdaptiveOptions& options);

  std::string Name() const override { return policy_->Name() + "+adaptive"; }
  void Observe(int layer, int kv_head, const AttentionRow& row) override;
  void Predict(int layer, int kv_head, const ChoiceRange& range, int count,
               std::vector<BlockChoice>* choices) override;
  bool WantsProbe(int layer) const override;
  bool WantsAttended() const override { return true; }
  bool WantsProbeOfHead(int layer, int kv_head) const override;
  bool WantsQueries() const override { return true; }
  void ObserveQuery(int layer, int kv_head,
                    std::span<const float> query) override;
  bool WantsKeys() const override { return policy_->WantsKeys(); }
  void ObserveKeys(int layer, int kv_head, int block,
                   std::span<const float> keys) override {
    policy_->ObserveKeys(layer, kv_head, block, keys);
  }
  size_t HistoryBytes() const override {
    return policy_->HistoryBytes() + bytes_;
  }

  // What a fresh row is worth now.
  float Urgency(int layer, int kv_head) const;

 private:
  struct Head {
    std::vector<uint16_t> query, probed;  // bf16, [group * head_dim]
    std::vector<BlockChoice> chosen;      // at the last token
    ChoiceRange range;                    // that they were chosen from
    float worth = 1;    // of the profile, 1 on average
    float drift = 0;    // 1 - cosine of `query` and `probed`
    float missed = 0;   // of the last whole row's mass
    float change = 0;   // of the chosen blocks' scores
    bool fresh = false;  // a paid whole row came since the last prediction
  };
  size_t Bytes(const Head& head) const;
  Head& HeadAt(int layer, int kv_head);
  float Threshold() const;  // of Urgency: higher where credit is low
  void Judge(const AttentionRow& row, Head* head);

  const Shape shape_;
  const float share_;
  const std::unique_ptr<Predictor> policy_;
  std::vector<Head> heads_;  // [layers][kv_heads]
  size_t bytes_ = 0;
  ProbeClock clock_;
  float credit_;     // probes that may be wanted now
  float threshold_;  // of Urgency, at half the credit
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_ADAPTIVE_H_
