// How what is not resident weighs in: attention over it, as the store computed
// it near the data for an estimate of the query (kvstore/tail.h).
#ifndef FORECACHE_WORKER_TAIL_H_
#define FORECACHE_WORKER_TAIL_H_

#include <cstddef>
#include <span>
#include <vector>

#include "kvstore/client/data_client.h"

namespace forecache {

// The tail of one layer and token.
//
// The store attended with the estimate q^: (value, lse) over the blocks that
// are neither resident nor pushed, and `key`, the mean key by that attention.
// With the token's own query q the log-sum-exp is, to first order,
//
//   lse + scale (q - q^) . key
//
// since key is its gradient.  The value is taken as it is.  What that leaves of
// the error is in docs/QUALITY.md, "The tail".
//
// Threads: a value.
class Tail {
 public:
  // Copies both.  `estimate` is q^, [kv_heads][group][head_dim].
  Tail(const TailView& view, std::span<const float> estimate);

  // Merges the tail into attention over the resident blocks: `out` [kv_heads]
  // [group][head_dim] with `lse` [kv_heads][group], both for `q`, unscaled.
  void Add(std::span<const float> q, float scale, std::span<float> out,
           std::span<float> lse) const;

  size_t bytes() const {
    return (lse_.size() + key_.size() + value_.size() + estimate_.size()) *
           sizeof(float);
  }

 private:
  const std::vector<float> estimate_;
  std::vector<float> lse_, key_, value_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_TAIL_H_
