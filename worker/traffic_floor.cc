#include "worker/traffic_floor.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "common/limits.h"

namespace forecache {
namespace {

// Where a floor starts, at a target of kFirstTarget blocks: about where the
// texts of docs/QUALITY.md hold it.
constexpr double kFirstFloor = 0.004;
constexpr double kFirstTarget = 4;
// Targets below this are followed as slowly as this one: a single token that
// retrieves must not shut a small stream for long.
constexpr double kLeastScale = 1;
// A choice stays for about so many tokens, a correction for one.
constexpr float kTokensChosen = 4;

float Bounded(double floor) {
  return static_cast<float>(std::clamp<double>(floor, kTrafficFloorLeast,
                                               kTrafficFloorMost));
}

}  // namespace

TrafficFloor::TrafficFloor(double target, int heads, float fixed)
    : target_(target),
      heads_(heads),
      floor_(target > 0 ? Bounded(kFirstFloor * kFirstTarget / target)
                        : fixed) {
  FC_CHECK(target >= 0 && target <= kTrafficTargetMax) << target;
  FC_CHECK(heads > 0) << heads;
}

void TrafficFloor::EndToken() {
  const double surplus = double(moved_) / heads_ - target_;
  moved_ = 0;
  if (!steers()) return;
  floor_ = Bounded(floor_ *
                   std::exp(surplus / (std::max(target_, kLeastScale) *
                                       kTrafficFollowTokens)));
}

float TrafficFloor::margin() const {
  return steers() ? floor_ / kTokensChosen : 0;
}

}  // namespace forecache
