// Which instruction set runs.
#include "kernels/cpu/targets.h"
// The macros above must come first.
#include "common/check.h"
#include "hwy/highway.h"
#include "hwy/targets.h"
#include "kernels/isa.h"

namespace forecache {
namespace {

// Highway's lowest bit is its best target.
int64_t BestTarget(int64_t targets) { return targets & -targets; }

}  // namespace

std::string KernelIsa() {
  return hwy::TargetName(BestTarget(hwy::SupportedTargets() & HWY_TARGETS));
}

std::vector<std::string> KernelIsasForTest() {
  std::vector<std::string> names;
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    names.push_back(hwy::TargetName(target));
  }
  return names;
}

void SetKernelIsaForTest(const std::string& isa) {
  hwy::SetSupportedTargetsForTest(0);
  if (isa.empty()) return;
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    if (isa != hwy::TargetName(target)) continue;
    hwy::SetSupportedTargetsForTest(target);
    return;
  }
  FC_CHECK(false) << "this CPU does not run " << isa;
}

}  // namespace forecache
