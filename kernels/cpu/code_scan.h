// The scans behind ScanCodesCpu, one a kind.  Arguments are checked.
#ifndef FORECACHE_KERNELS_CPU_CODE_SCAN_H_
#define FORECACHE_KERNELS_CPU_CODE_SCAN_H_

#include "kernels/attention.h"
#include "kernels/code_scan.h"

namespace forecache {

void Scan4BitCpu(const CodeScan& args);
void ScanRotatedCpu(const CodeScan& args);
void EncodeRotatedPlaneCpu(const std::byte* keys, KvType type, int head_dim,
                           std::byte* plane);

}  // namespace forecache

#endif  // FORECACHE_KERNELS_CPU_CODE_SCAN_H_
