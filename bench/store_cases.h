// What `bench store` measures.
#ifndef FORECACHE_BENCH_STORE_CASES_H_
#define FORECACHE_BENCH_STORE_CASES_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "bench/harness.h"
#include "bench/store_client.h"
#include "bench/transport_pair.h"
#include "kvstore/ssd/disk.h"

namespace forecache {

inline constexpr size_t kStoreBlockBytes = 4096;
// Of a request.
inline constexpr size_t kStoreRequestBytes[] = {4 << 10, 64 << 10, 1 << 20};
inline constexpr int kStoreBatches[] = {1, 16};  // requests under way
inline constexpr int kStoreClients[] = {1, 4};
inline constexpr int kStoreClientsMax = 4;
// A put of 1 MiB takes as many: 16 blocks of one layer in each.
inline constexpr int kPutSegments = 16;

// One KV head of 64 channels in bf16: a block has 4 KiB, a segment of 16 layers
// 1 MiB.
KvGeometry StoreBenchGeometry(bool smoke);
std::string SizeName(size_t bytes);

// Figures that grow by a sample a repeat.
//
// Threads: one thread.
class StoreFigures {
 public:
  void AddTime(const std::string& name, double us);
  void AddRate(const std::string& name, const std::string& roofline,
               double bytes_per_second);
  // p50 and p99.
  void AddTimes(const std::string& name, std::vector<double> us);
  void RecordAll(Harness* harness) const;

 private:
  void Add(BenchFigure sample);
  std::vector<BenchFigure> figures_;
};

// The clients of one store.
//
// Threads: one thread.
struct StoreUnderTest {
  std::string tier;  // in figures: "dram", "ssd"
  std::vector<std::unique_ptr<StoreClient>> readers;  // a session each
  std::vector<std::unique_ptr<StoreClient>> writers;
};

// One repeat of get/TIER/SIZE/batch_N/clients_N.
absl::Status MeasureGets(const StoreUnderTest& store, bool smoke,
                         StoreFigures* figures);
// One repeat of put/dram/...: acknowledged, in memory.
absl::Status MeasurePuts(const StoreUnderTest& store, bool smoke,
                         StoreFigures* figures);
// One repeat of put/ssd/...: 16 segments are put, then sealed until they are
// durable.  The rate is of both, the times are a segment's seal.
absl::Status MeasureDurablePuts(const StoreUnderTest& store,
                                StoreFigures* figures);

// What bounds the above, for each size: copies within memory, the disk alone
// and the transport alone.
//
// Threads: one thread.
class StoreBounds {
 public:
  // `pair` is open already.
  static absl::StatusOr<std::unique_ptr<StoreBounds>> Prepare(
      const std::string& folder, TransportPair* pair, bool smoke);
  // One repeat of raw/...
  absl::Status Measure(StoreFigures* figures);

 private:
  StoreBounds(TransportPair* pair, bool smoke);
  void MeasureCopies(size_t size, StoreFigures* figures);
  absl::Status MeasureReads(size_t size, StoreFigures* figures);
  absl::Status MeasureWrites(size_t size, StoreFigures* figures);
  absl::Status MeasureTransport(size_t size, StoreFigures* figures);
  // Waits for them.
  absl::Status Move(std::vector<DiskOp> ops);

  TransportPair* const pair_;
  const int calls_;
  Rng rng_{11};
  std::vector<std::byte> memory_;  // that copies come from
  PageBuffer pages_;
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<DiskFile> file_;
  std::unique_ptr<DiskQueue> queue_;  // ends before its file
};

}  // namespace forecache

#endif  // FORECACHE_BENCH_STORE_CASES_H_
