// What codes are worth: how much of the attention that the exactly best blocks
// hold do the blocks hold that codes call best?
#ifndef FORECACHE_BENCH_CODE_RECALL_H_
#define FORECACHE_BENCH_CODE_RECALL_H_

#include <vector>

#include "bench/key_capture.h"
#include "kernels/code_scan.h"

namespace forecache {

// One value for each (layer, KV head, query token) of a capture.
struct CodeRecall {
  // Mass of the `top` blocks by codes over that of the `top` blocks by exact
  // scores.  A block's score is the mean over the group's query heads of its
  // largest key's probability, as the predictors rank; its mass is the mean of
  // its keys' summed probabilities.
  std::vector<double> mass_share;
  // The part of the exact `top` that is among the `top` by codes.
  std::vector<double> block_share;
  // Log-sum-exp by codes less the exact one: of each query head.
  std::vector<double> lse_error;

  static double Mean(const std::vector<double>& values);
  static double Percentile(std::vector<double> values, double percent);
};

CodeRecall MeasureCodeRecall(const KeyCapture& capture, CodeKind kind,
                             int top);

}  // namespace forecache

#endif  // FORECACHE_BENCH_CODE_RECALL_H_
