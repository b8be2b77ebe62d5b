#include "transport/backoff.h"

#include <algorithm>
#include <climits>

#include "common/check.h"

namespace forecache {

Backoff::Backoff(const BackoffOptions& options, uint64_t seed)
    : options_(options), rng_(seed), wait_(static_cast<double>(options.first)) {
  FC_CHECK(options.first > 0 && options.max >= options.first &&
           options.factor >= 1 && options.jitter >= 0 && options.jitter <= 1);
}

void Backoff::Failed(Nanos now) {
  if (connected_at_ >= 0 && now - connected_at_ >= options_.stable_after) {
    failures_ = 0;
    wait_ = static_cast<double>(options_.first);
  }
  connected_at_ = -1;
  if (failures_ < INT_MAX) ++failures_;
  const double part = 1 - options_.jitter * rng_.Uniform();
  next_ = now + std::max<Nanos>(1, static_cast<Nanos>(wait_ * part));
  wait_ = std::min(wait_ * options_.factor, static_cast<double>(options_.max));
}

void Backoff::Connected(Nanos now) {
  connected_at_ = std::max<Nanos>(0, now);
  next_ = now;
}

}  // namespace forecache
