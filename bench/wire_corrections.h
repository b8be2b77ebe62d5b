// A correction's round trip: the store scores a layer and pushes the few best
// blocks that are missing, until the worker has them.
#ifndef FORECACHE_BENCH_WIRE_CORRECTIONS_H_
#define FORECACHE_BENCH_WIRE_CORRECTIONS_H_

#include "absl/status/status.h"
#include "bench/wire_cases.h"
#include "bench/wire_report.h"

namespace forecache {

// One repeat of correct_p50_ms and correct_p99_ms; of the same with the tail in
// the reply, correct_tail_p50_ms and _p99_ms; and with fetches under way,
// correct_loaded_p50_ms and _p99_ms; over TCP the names have "_tcp" behind
// "correct".
absl::Status MeasureCorrections(const WirePath& path,
                                const WireContexts& contexts,
                                const WireSizes& sizes, WireReport* report);

}  // namespace forecache

#endif  // FORECACHE_BENCH_WIRE_CORRECTIONS_H_
