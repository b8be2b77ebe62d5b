// How well queries can be estimated ahead of their layer.
#ifndef FORECACHE_WORKER_QUERY_ESTIMATES_H_
#define FORECACHE_WORKER_QUERY_ESTIMATES_H_

#include <span>
#include <vector>

namespace forecache {

// A layer whose estimates agree with its queries is corrected ahead, by the
// estimate; the others by their own query, which they wait for.  The first
// layers of a model change the residual stream most: in SmolLM2 the cosine of
// estimate and query is 0.2 in the second layer, 0.7 in the third, and 0.95 to
// 0.99 in those that follow.
//
// Threads: one thread at a time.
class QueryEstimates {
 public:
  explicit QueryEstimates(int layers)
      : agreement_(layers, 0.0f), ahead_(layers, false) {}

  // Takes the estimate of `layer`'s query that was just made.  Whether the
  // layer shall be corrected by it; else by its own query.
  bool Take(int layer, std::span<const float> estimate);

  // Compares the layer's own query with its estimate, if there was one.
  // Whether it was corrected ahead.
  bool Meet(int layer, std::span<const float> query);

  float agreement(int layer) const { return agreement_[layer]; }

 private:
  std::vector<float> agreement_;  // cosine, averaged; 0: none yet
  std::vector<bool> ahead_;
  std::vector<float> estimate_;   // of layer_
  int layer_ = -1;
};

// The least agreement that is trusted.  Less waits less often and loses more:
// docs/QUALITY.md, "The tail", has the figures.
inline constexpr float kQueryAgreementMin = 0.97f;

}  // namespace forecache

#endif  // FORECACHE_WORKER_QUERY_ESTIMATES_H_
