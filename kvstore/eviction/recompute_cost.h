// What it costs to compute a segment again.
#ifndef FORECACHE_KVSTORE_EVICTION_RECOMPUTE_COST_H_
#define FORECACHE_KVSTORE_EVICTION_RECOMPUTE_COST_H_

#include <cstddef>

#include "kvstore/geometry.h"

namespace forecache {

// About how many multiplications a prefill needs for segment `number` of a
// context.  With h channels in all query heads, a token has in a layer 12 h^2
// with the weights (4 in attention's projections, 8 in a feed-forward network
// four times as wide) and 2 h with each token before it.  A store does not know
// a model's own sizes; only ratios between segments matter.
inline double RecomputeCost(const KvGeometry& geometry, size_t number) {
  const double h = double{1} * geometry.kv_heads * geometry.group *
                   geometry.head_dim;
  const double context = (number + 0.5) * kSegmentTokens;
  return kSegmentTokens * geometry.layers * h * (12 * h + 2 * context);
}

// See EvictionPolicy.
inline float WorthOf(const KvGeometry& geometry, size_t number, size_t bytes) {
  return static_cast<float>(RecomputeCost(geometry, number) / bytes);
}

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_EVICTION_RECOMPUTE_COST_H_
