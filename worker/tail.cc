#include "worker/tail.h"

#include <cmath>

#include "common/check.h"
#include "common/half.h"
#include "kernels/attention.h"

namespace forecache {

Tail::Tail(const TailView& view, std::span<const float> estimate)
    : estimate_(estimate.begin(), estimate.end()),
      lse_(view.lse.begin(), view.lse.end()) {
  FC_CHECK(view.key.size() == estimate.size() &&
           view.value.size() == estimate.size())
      << view.key.size() << " of " << estimate.size();
  key_.reserve(view.key.size());
  value_.reserve(view.value.size());
  for (const uint16_t bits : view.key) key_.push_back(F16ToFloat(bits));
  for (const uint16_t bits : view.value) value_.push_back(F16ToFloat(bits));
}

void Tail::Add(std::span<const float> q, float scale, std::span<float> out,
               std::span<float> lse) const {
  const size_t d = estimate_.size() / lse_.size();
  for (size_t row = 0; row < lse_.size(); ++row) {
    float shift = 0;
    for (size_t c = row * d; c < (row + 1) * d; ++c) {
      shift += (q[c] - estimate_[c]) * key_[c];
    }
    const float of_tail = lse_[row] + scale * shift;
    // Nothing is left out, or the store's numbers overflowed.
    if (!std::isfinite(of_tail)) continue;
    MergeAttention(1, static_cast<int>(d), out.data() + row * d,
                   lse.data() + row, value_.data() + row * d, &of_tail);
  }
}

}  // namespace forecache
