// Which instruction set the cpu backend runs.
#ifndef FORECACHE_KERNELS_ISA_H_
#define FORECACHE_KERNELS_ISA_H_

#include <string>
#include <vector>

namespace forecache {

// The instruction set that the cpu backend chose: "AVX3_DL", "AVX3", "AVX2",
// "SSE4", "NEON", or "SCALAR", which runs the specification.
std::string KernelIsa();
// Every instruction set this CPU can run, for tests.  SetKernelIsaForTest
// limits dispatch to one of them ("" lifts the limit).
std::vector<std::string> KernelIsasForTest();
void SetKernelIsaForTest(const std::string& isa);

}  // namespace forecache

#endif  // FORECACHE_KERNELS_ISA_H_
