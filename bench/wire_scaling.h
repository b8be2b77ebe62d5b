// One store and two, each behind a network link of its own that is the limit.
#ifndef FORECACHE_BENCH_WIRE_SCALING_H_
#define FORECACHE_BENCH_WIRE_SCALING_H_

#include <string>

#include "absl/status/status.h"
#include "bench/wire_report.h"

namespace forecache {

struct ScalingOptions {
  std::string bin_dir;
  bool smoke = false;
  int repeats = 5;
};

// The flag by which the benchmark runs itself in a network namespace.
inline constexpr char kScalingWorkerFlag[] = "--in-namespace";

// Records scaling_gbps and scaling_2_stores; or, where namespaces and limited
// links are not to be had, why in the note "scaling skipped".
//
// Namespaces have no names and belong to processes that die with this one, so
// that nothing is left however it ends.
absl::Status MeasureScaling(const ScalingOptions& options, WireReport* report);

// The process inside: starts the stores, measures, and writes its figures as
// JSON to standard output.  Returns the exit code.
int RunScalingWorker(const ScalingOptions& options);

}  // namespace forecache

#endif  // FORECACHE_BENCH_WIRE_SCALING_H_
