// Which instruction sets the cpu backend is compiled for.  Every source that
// includes hwy/foreach_target.h includes this first, so that all agree.
#ifndef FORECACHE_KERNELS_CPU_TARGETS_H_
#define FORECACHE_KERNELS_CPU_TARGETS_H_

// Opt in to AVX-512 with VNNI, and to what old x86 machines have.
#define HWY_WANT_AVX3_DL 1
#define HWY_WANT_SSE4 1
// Vectors of a size unknown at compile time cannot lie in arrays, as the
// register blocks here need: those machines run NEON or the specification.
#define HWY_DISABLED_TARGETS \
  (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

#endif  // FORECACHE_KERNELS_CPU_TARGETS_H_
