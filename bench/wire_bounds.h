// What bounds the wire, in the same run: ucx_perftest's operations, and the
// speed of scans.
#ifndef FORECACHE_BENCH_WIRE_BOUNDS_H_
#define FORECACHE_BENCH_WIRE_BOUNDS_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "bench/harness.h"
#include "bench/ucx_perftest.h"
#include "bench/wire_report.h"

namespace forecache {

// The first repeat tries all operations, those that follow the fastest one.
//
// Threads: one thread.
class PerftestBounds {
 public:
  // `transport` as UCX calls it, and as figures do: "tcp", "shm".
  PerftestBounds(const std::string& transport, bool smoke)
      : transport_(transport), smoke_(smoke) {}

  // One repeat of perftest_gbps, the best of all operations, and of
  // perftest_message_gbps, the best of those whose receiver hears of each
  // arrival: for 64 KiB, 256 KiB (a packed push) and 1 MiB.
  // kNotFound when ucx_perftest is not installed.
  absl::Status Measure(WireReport* report);

 private:
  absl::Status MeasureSize(const std::string& name, size_t size,
                           WireReport* report);
  absl::Status MeasureBest(const std::string& path,
                           const std::vector<std::string>& tests, size_t size,
                           WireReport* report);

  const std::string transport_;
  const bool smoke_;
  std::map<std::string, UcxPerftestOptions> chosen_;  // by path
};

// scan_keys_gbps, by the bits of a code: bytes of 16-bit keys that one core
// covers, and scan_roofline_gbps, the same if reading the codes were all.  All
// repeats at once, interleaved.
void MeasureScans(Harness* harness, WireReport* report);

// fetch_ratio and fetch_message_ratio of one transport.
void CompareWithPerftest(const std::string& transport, WireReport* report);

}  // namespace forecache

#endif  // FORECACHE_BENCH_WIRE_BOUNDS_H_
