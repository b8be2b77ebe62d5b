#include "eval/bootstrap.h"

#include <algorithm>
#include <numeric>

#include "common/check.h"
#include "common/rng.h"

namespace forecache::eval {
namespace {

constexpr int kBootstraps = 1000;
constexpr uint64_t kBootstrapSeed = 1;

}  // namespace

double MeanOf(const std::vector<double>& values) {
  return values.empty() ? 0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              double(values.size());
}

Interval BootstrapMean(const std::vector<double>& values) {
  FC_CHECK(!values.empty());
  Rng rng(kBootstrapSeed);
  std::vector<double> means(kBootstraps);
  for (double& mean : means) {
    for (size_t i = 0; i < values.size(); ++i) {
      mean += values[rng.Below(values.size())];
    }
    mean /= double(values.size());
  }
  std::sort(means.begin(), means.end());
  return {.low = means[kBootstraps * 25 / 1000],
          .high = means[kBootstraps * 975 / 1000 - 1]};
}

}  // namespace forecache::eval
