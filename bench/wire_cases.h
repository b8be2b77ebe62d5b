// What `bench wire` measures, a function for each case.
#ifndef FORECACHE_BENCH_WIRE_CASES_H_
#define FORECACHE_BENCH_WIRE_CASES_H_

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/wire_report.h"
#include "bench/wire_worker.h"

namespace forecache {

// How many tokens, and how often.
struct WireSizes {
  int gather_tokens = 4096;  // 16 MiB of 8 KiB blocks
  int small_tokens = 32 << 10;
  // The lengths that figures call 8k, 32k and 128k.
  int tokens_8k = 8 << 10;
  int tokens_32k = 32 << 10;
  int tokens_128k = 128 << 10;
  int layers_32k = 8;   // resident ones, of contexts up to 32k
  int layers_128k = 2;
  int gathers = 50;  // of one repeat, as all below
  int gets = 300;
  int probes = 30;
  int corrections = 60;
  int tokens = 2;
  double stream_seconds = 0.2;
};
WireSizes WireSizesFor(bool smoke);

// The way to the stores by one of UCX's transports.
struct WirePath {
  std::string name;  // in figures: "tcp", "shm"
  std::unique_ptr<WireWorker> worker;
};

struct WireContexts {
  WireContext gather;  // blocks of 8 KiB, one layer
  WireContext small;   // blocks of 4 KiB, one layer
  WireContext upto_32k;
  WireContext upto_128k;
};
absl::StatusOr<WireContexts> FillContexts(const WireSizes& sizes,
                                          WireWorker* worker);
// Only the two long ones.
absl::StatusOr<WireContexts> FillLongContexts(const WireSizes& sizes,
                                              WireWorker* worker);

// Each takes one repeat of its figures.

// gather_256x4k_ms and get_64k_p50_ms.
absl::Status MeasureGathers(const WirePath& path, const WireContexts& contexts,
                            const WireSizes& sizes, WireReport* report);
// fetch_gbps, for packed blocks of 4 and 8 KiB, and fetches of 64 KiB and
// 1 MiB.
absl::Status MeasureFetchRates(const WirePath& path,
                               const WireContexts& contexts,
                               const WireSizes& sizes, WireReport* report);
// probe_p50_ms.
absl::Status MeasureProbes(const WirePath& path, const WireContexts& contexts,
                           const WireSizes& sizes, WireReport* report);

// The context, and the blocks of it, that stand for a length: "8k", "32k",
// "128k".
struct WireLength {
  std::string name;
  const WireContext* context = nullptr;
  int blocks = 0;
};
std::vector<WireLength> WireLengths(const WireContexts& contexts,
                                    const WireSizes& sizes);

// A query for all heads of one layer, as independent normal values.
std::vector<float> RandomQuery(const KvGeometry& geometry, Rng* rng);

}  // namespace forecache

#endif  // FORECACHE_BENCH_WIRE_CASES_H_
