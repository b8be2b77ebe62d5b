// Scans of code planes far beyond any cache: what a store's probes cost.
#ifndef FORECACHE_BENCH_SCAN_CASES_H_
#define FORECACHE_BENCH_SCAN_CASES_H_

#include <string>

#include "bench/harness.h"

namespace forecache {

// "scan_keys_gbps{bits=4}": bytes of 16-bit keys covered a second by one core,
// block maxima and log-sum-exp included.  Variants: ",lse=no" without the
// latter, ",cached=yes" with planes in the second-level cache.
std::string ScanCaseName(int bits, const std::string& variant = "");

// Adds the cases of 4 and 2 bits, for 4 query heads of 128 channels: 512 MiB of
// keys covered (with --smoke 1 MiB), whose planes lie in memory in random
// order, as those of a context do.  Beside each stands its roofline: a plain
// read of the same planes in the same order.
void AddScanCases(Harness& harness);

}  // namespace forecache

#endif  // FORECACHE_BENCH_SCAN_CASES_H_
