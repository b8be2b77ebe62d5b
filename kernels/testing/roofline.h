// What one core can do at most: the bounds that kernels are compared with.
#ifndef FORECACHE_KERNELS_TESTING_ROOFLINE_H_
#define FORECACHE_KERNELS_TESTING_ROOFLINE_H_

#include <cstddef>
#include <cstdint>

namespace forecache {

// The sum of `words` words, read with the widest loads of this CPU.
uint64_t SumWords(const uint64_t* words, size_t count);

// `steps` rounds of independent f32 fused multiply-adds in registers, and how
// many operations (two each) that is.
float FusedMultiplyAdds(int64_t steps);
double FusedMultiplyAddFlops(int64_t steps);

}  // namespace forecache

#endif  // FORECACHE_KERNELS_TESTING_ROOFLINE_H_
