// A function compiled for several instruction sets: for plain loops of which
// the compiler makes vectors, where kernels in Highway would say no more.
//
// The clone that runs is chosen when the program is loaded, which is before
// sanitizers are ready: with them there is one.
#ifndef FORECACHE_COMMON_TARGET_CLONES_H_
#define FORECACHE_COMMON_TARGET_CLONES_H_

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define FC_CLONES \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FC_CLONES
#endif

#endif  // FORECACHE_COMMON_TARGET_CLONES_H_
