// Runs a test body once for every instruction set of this CPU.
#ifndef FORECACHE_TESTS_KERNELS_ISA_H_
#define FORECACHE_TESTS_KERNELS_ISA_H_

#include <string>

#include "gtest/gtest.h"
#include "kernels/isa.h"

namespace forecache {

// Limits dispatch for its lifetime.
//
// Threads: one thread at a time; dispatch is global.
class ScopedIsa {
 public:
  explicit ScopedIsa(const std::string& isa) { SetKernelIsaForTest(isa); }
  ~ScopedIsa() { SetKernelIsaForTest(""); }
  ScopedIsa(const ScopedIsa&) = delete;
  ScopedIsa& operator=(const ScopedIsa&) = delete;
};

// Parameters of (instruction set, case) as a test's name.
template <typename Case>
std::string IsaCaseName(
    const testing::TestParamInfo<std::tuple<std::string, Case>>& info) {
  return std::get<0>(info.param) + "_" + std::get<1>(info.param).name;
}

}  // namespace forecache

#endif  // FORECACHE_TESTS_KERNELS_ISA_H_
