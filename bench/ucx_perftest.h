// UCX's own benchmark, ucx_perftest, as the bound to compare a transport with.
#ifndef FORECACHE_BENCH_UCX_PERFTEST_H_
#define FORECACHE_BENCH_UCX_PERFTEST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"

namespace forecache {

struct UcxPerftestOptions {
  // What UCX may use (UCX_TLS): "tcp" or "shm", or any list of UCX's.
  std::string transports = "tcp";
  // As `ucx_perftest -t` takes it: see UcxBandwidthTests() for rates; a name
  // in "_lat" for latencies.
  std::string test = "ucp_am_bw";
  size_t size = 4096;  // of one message
  // 0: as many as fill `seconds`, found by a short run before.
  uint64_t iterations = 0;
  double seconds = 0.25;
  // Where the two processes run; -1 leaves it to the system.
  int server_core = 1;
  int client_core = 0;
  // Of the call.  Both processes are killed when it has passed.
  Nanos timeout = 20 * kSecond;
};

struct UcxPerftestResult {
  std::string test;
  double bytes_per_second = 0;
  double latency_us = 0;  // of one operation: half a round trip in "_lat"
};

// Starts a server and a client on this host, pinned to a core each, and returns
// what the client printed.  Both die with this process, and neither outlives
// the call.
// Returns kNotFound when ucx_perftest is not installed, kUnavailable when it
// failed (an operation that the transport lacks), kDeadlineExceeded.
//
// Threads: safe to call from any thread.
absl::StatusOr<UcxPerftestResult> RunUcxPerftest(
    const UcxPerftestOptions& options);

// All operations that ucx_perftest can move `size` bytes with: active message,
// stream, tag, put, get.
const std::vector<std::string>& UcxBandwidthTests();

// Those of them whose receiver is told of each arrival: active message, stream,
// tag.  A put or get of ucx_perftest repeats itself on one buffer that nobody
// reads, so over shared memory it is a memcpy within one core's cache.
const std::vector<std::string>& UcxMessageTests();

// The fastest of `tests`, each run with `options` but for `test`; what a short
// run shows to be far behind is not run at length.  Operations that fail are
// left out; returns the last error when all do.
absl::StatusOr<UcxPerftestResult> BestUcxPerftest(
    const std::vector<std::string>& tests, UcxPerftestOptions options);

}  // namespace forecache

#endif  // FORECACHE_BENCH_UCX_PERFTEST_H_
