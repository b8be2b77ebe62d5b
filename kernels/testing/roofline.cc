#include "kernels/testing/roofline.h"

#include <numeric>

#include "kernels/cpu/targets.h"
// The macros above must come first.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/testing/roofline.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Enough chains to hide the latency of the operation.
inline constexpr int kChains = 12;

uint64_t SumAll(const uint64_t* HWY_RESTRICT words, size_t count) {
  const hn::ScalableTag<uint64_t> d;
  const size_t lanes = hn::Lanes(d);
  auto a = hn::Zero(d), b = a, c = a, e = a;
  size_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    a = hn::Add(a, hn::LoadU(d, words + i));
    b = hn::Add(b, hn::LoadU(d, words + i + lanes));
    c = hn::Add(c, hn::LoadU(d, words + i + 2 * lanes));
    e = hn::Add(e, hn::LoadU(d, words + i + 3 * lanes));
  }
  // Not by SumOfLanes, which some compilers' headers do with signed words.
  HWY_ALIGN uint64_t sums[HWY_MAX_BYTES / sizeof(uint64_t)];
  hn::Store(hn::Add(hn::Add(a, b), hn::Add(c, e)), d, sums);
  return std::accumulate(sums, sums + lanes, uint64_t{0});
}

float MultiplyAdds(int64_t steps) {
  const hn::ScalableTag<float> d;
  const auto x = hn::Set(d, 0.999f);
  const auto y = hn::Set(d, 1e-3f);
  hn::Vec<decltype(d)> acc[kChains];
#pragma GCC unroll 12
  for (int i = 0; i < kChains; ++i) acc[i] = hn::Set(d, 0.1f * i);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = hn::MulAdd(acc[i], x, y);
  }
#pragma GCC unroll 12
  for (int i = 1; i < kChains; ++i) acc[0] = hn::Add(acc[0], acc[i]);
  return hn::GetLane(hn::SumOfLanes(d, acc[0]));
}

double FlopsOfStep() {
  return 2.0 * kChains * hn::Lanes(hn::ScalableTag<float>());
}

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forecache {

HWY_EXPORT(SumAll);
HWY_EXPORT(MultiplyAdds);
HWY_EXPORT(FlopsOfStep);

uint64_t SumWords(const uint64_t* words, size_t count) {
  return HWY_DYNAMIC_DISPATCH(SumAll)(words, count);
}

float FusedMultiplyAdds(int64_t steps) {
  return HWY_DYNAMIC_DISPATCH(MultiplyAdds)(steps);
}

double FusedMultiplyAddFlops(int64_t steps) {
  return steps * HWY_DYNAMIC_DISPATCH(FlopsOfStep)();
}

}  // namespace forecache
#endif  // HWY_ONCE
