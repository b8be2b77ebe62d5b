// How sure a mean is.
#ifndef FORECACHE_EVAL_BOOTSTRAP_H_
#define FORECACHE_EVAL_BOOTSTRAP_H_

#include <vector>

namespace forecache::eval {

double MeanOf(const std::vector<double>& values);

// 95 % of the means of samples with replacement, always with the same seed.
//
// Threads: a value.
struct Interval {
  double low = 0, high = 0;
};
// REQUIRES: values is not empty.
Interval BootstrapMean(const std::vector<double>& values);

}  // namespace forecache::eval

#endif  // FORECACHE_EVAL_BOOTSTRAP_H_
