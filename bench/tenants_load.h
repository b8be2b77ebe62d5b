// The two tenants of `bench tenants`: one that is quiet, and its neighbour.
#ifndef FORECACHE_BENCH_TENANTS_LOAD_H_
#define FORECACHE_BENCH_TENANTS_LOAD_H_

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/store_client.h"

namespace forecache {

// Where the tenants' store is, and who they are there.
//
// Threads: a value.
struct TenantsStore {
  std::string address;
  std::string token;
  UcxOptions options;
  KvGeometry geometry;
};

absl::StatusOr<std::unique_ptr<StoreClient>> ConnectTenant(
    const TenantsStore& store);

// Fetches 16 blocks every 5 ms for `length`.  Returns what each took from when
// it was due, in microseconds: a store that is late for one is late for those
// that wait behind it.
absl::StatusOr<std::vector<double>> FetchQuietly(StoreClient* client,
                                                 Nanos length);

enum class Flood { kFetches, kFetchesSsd, kPuts, kProbes, kLookups, kSessions };
inline constexpr Flood kFloods[] = {Flood::kFetches,  Flood::kFetchesSsd,
                                    Flood::kPuts,     Flood::kProbes,
                                    Flood::kLookups,  Flood::kSessions};
std::string FloodName(Flood flood);

// How long the contexts are, in segments.
//
// Threads: a value.
struct TenantsSizes {
  int context = 128;      // 32K tokens, in memory
  int ssd_context = 384;  // of the neighbour, on SSD
};
inline constexpr uint64_t kSsdContextSeed = 100;

// The tenant next door.
//
// Threads: one thread at a time.
class Neighbour {
 public:
  // Opens its context that is on SSD, and puts another in memory.
  static absl::StatusOr<std::unique_ptr<Neighbour>> Connect(
      const TenantsStore& store, const TenantsSizes& sizes);

  // Floods the store until `stop`, and once at least; `pause` > 0: begins one
  // operation every so often, else as fast as it goes.  Returns operations a
  // second.
  absl::StatusOr<double> Run(Flood flood, Nanos pause,
                             const std::atomic<bool>& stop);

 private:
  Neighbour() = default;
  StoreClient* ClientOf(Flood flood) const;
  // Begins an operation, or does it.
  absl::Status Begin(Flood flood, std::function<void()> done);
  absl::Status PutContext();

  std::unique_ptr<StoreClient> reader_, ssd_reader_, writer_;
  std::vector<int32_t> known_;  // that are held
  uint64_t next_seed_ = 1000;
};

}  // namespace forecache

#endif  // FORECACHE_BENCH_TENANTS_LOAD_H_
