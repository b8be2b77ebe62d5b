#include "bench/store_cases.h"

#include <algorithm>
#include <span>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/status.h"

namespace forecache {
namespace {

// What one client moves for one sample, within the bounds on its batches.
constexpr size_t kSampleBytes = size_t{16} << 20;
constexpr int kBatchesMin = 8;
constexpr int kBatchesMax = 256;

Nanos Now() { return Clock::Real()->Now(); }

int BlocksOf(size_t size) {
  return static_cast<int>(size / kStoreBlockBytes);
}

int BatchesFor(size_t size, int batch, bool smoke) {
  if (smoke) return 2;
  return std::clamp(static_cast<int>(kSampleBytes / (size * batch)),
                    kBatchesMin, kBatchesMax);
}

// Batches of one client, one after the other: a batch is over when all of its
// requests are.
//
// Threads: one thread.
class BatchRun {
 public:
  // Starts request number `number`, from 0.
  using Request = std::function<absl::Status(StoreClient* client, int number,
                                             std::function<void()> done)>;
  BatchRun(StoreClient* client, int batch, int batches, Request request)
      : client_(client),
        batch_(batch),
        batches_(batches),
        request_(std::move(request)) {}

  bool over() const {
    return under_way_ == 0 && static_cast<int>(us_.size()) == batches_;
  }
  const std::vector<double>& us() const { return us_; }

  absl::Status Step() {
    if (over()) return absl::OkStatus();
    if (under_way_ > 0) return client_->Progress();
    under_way_ = batch_;
    start_ = Now();
    for (int i = 0; i < batch_; ++i) {
      FC_RETURN_IF_ERROR(request_(client_, next_++, [this] {
        if (--under_way_ == 0) us_.push_back(1e-3 * (Now() - start_));
      }));
    }
    return absl::OkStatus();
  }

 private:
  StoreClient* const client_;
  const int batch_;
  const int batches_;
  const Request request_;
  int next_ = 0;
  int under_way_ = 0;
  Nanos start_ = 0;
  std::vector<double> us_;
};

struct RunResult {
  std::vector<double> us;
  Nanos took = 0;
};

// All clients at once, by turns on this thread.
absl::Status RunAll(std::span<const std::unique_ptr<StoreClient>> clients,
                    int batch, int batches,
                    const std::function<BatchRun::Request(int client)>& request,
                    RunResult* result) {
  std::vector<std::unique_ptr<BatchRun>> runs;
  for (size_t i = 0; i < clients.size(); ++i) {
    runs.push_back(std::make_unique<BatchRun>(
        clients[i].get(), batch, batches, request(static_cast<int>(i))));
  }
  const Nanos start = Now();
  for (bool over = false; !over;) {
    over = true;
    for (auto& run : runs) {
      FC_RETURN_IF_ERROR(run->Step());
      over = over && run->over();
    }
  }
  result->took += Now() - start;
  for (auto& run : runs) {
    result->us.insert(result->us.end(), run->us().begin(), run->us().end());
  }
  return absl::OkStatus();
}

// Puts of `clients`' contexts, which are open and empty.
absl::Status RunPuts(std::span<const std::unique_ptr<StoreClient>> clients,
                     int blocks, int batch, int batches, RunResult* result) {
  // Packed before the clock starts.
  std::vector<std::vector<std::vector<std::byte>>> payloads(clients.size());
  for (size_t i = 0; i < clients.size(); ++i) {
    payloads[i].assign(size_t{1} * batch * batches,
                       clients[i]->PackPut(0, blocks));
  }
  return RunAll(
      clients, batch, batches,
      [&](int client) {
        return [&payloads, client, blocks](StoreClient* to, int number,
                                           std::function<void()> done) {
          return to->StartPut(number, blocks,
                              std::move(payloads[client][number]),
                              std::move(done));
        };
      },
      result);
}

absl::Status OpenFresh(std::span<const std::unique_ptr<StoreClient>> clients) {
  static uint64_t seed = 1000;  // no context is put twice
  for (auto& client : clients) {
    FC_ASSIGN_OR_RETURN(const int held,
                        client->Open(ContextTokens(++seed, kPutSegments)));
    FC_CHECK(held == 0) << seed;
  }
  return absl::OkStatus();
}

absl::Status CloseAll(std::span<const std::unique_ptr<StoreClient>> clients) {
  for (auto& client : clients) FC_RETURN_IF_ERROR(client->Close());
  return absl::OkStatus();
}

// Calls `measure` with each size, batch and number of clients.
absl::Status ForEachCase(
    const std::string& op,
    const std::function<absl::Status(const std::string& name, size_t size,
                                     int batch, int clients)>& measure) {
  for (size_t size : kStoreRequestBytes) {
    for (int batch : kStoreBatches) {
      for (int clients : kStoreClients) {
        FC_RETURN_IF_ERROR(
            measure(absl::StrCat(op, "/", SizeName(size), "/batch_", batch,
                                 "/clients_", clients),
                    size, batch, clients));
      }
    }
  }
  return absl::OkStatus();
}

double Rate(double bytes, Nanos took) { return bytes / (1e-9 * took); }

}  // namespace

KvGeometry StoreBenchGeometry(bool smoke) {
  return {.layers = smoke ? 1 : 16,
          .kv_heads = 1,
          .head_dim = 64,
          .group = 4,
          .type = KvType::kBF16};
}

std::string SizeName(size_t bytes) {
  return bytes >= (1 << 20) ? absl::StrCat(bytes >> 20, "m")
                            : absl::StrCat(bytes >> 10, "k");
}

void StoreFigures::Add(BenchFigure sample) {
  for (BenchFigure& figure : figures_) {
    if (figure.name != sample.name) continue;
    figure.samples.push_back(sample.samples.front());
    return;
  }
  figures_.push_back(std::move(sample));
}

void StoreFigures::AddTime(const std::string& name, double us) {
  Add({name, "us", false, {us}, ""});
}

void StoreFigures::AddRate(const std::string& name,
                           const std::string& roofline,
                           double bytes_per_second) {
  Add({name + "/rate", "MB/s", true, {1e-6 * bytes_per_second},
       roofline.empty() ? "" : roofline + "/rate"});
}

void StoreFigures::AddTimes(const std::string& name, std::vector<double> us) {
  BenchFigure times;
  times.samples = std::move(us);
  AddTime(name + "/p50", times.Percentile(50));
  AddTime(name + "/p99", times.Percentile(99));
}

void StoreFigures::RecordAll(Harness* harness) const {
  for (const BenchFigure& figure : figures_) harness->Record(figure);
}

absl::Status MeasureGets(const StoreUnderTest& store, bool smoke,
                         StoreFigures* figures) {
  return ForEachCase(
      absl::StrCat("get/", store.tier),
      [&](const std::string& name, size_t size, int batch, int clients) {
        const int batches = BatchesFor(size, batch, smoke);
        RunResult result;
        FC_RETURN_IF_ERROR(RunAll(
            std::span(store.readers).first(clients), batch, batches,
            [size](int) {
              return [size](StoreClient* from, int,
                            std::function<void()> done) {
                return from->StartGet(BlocksOf(size), std::move(done));
              };
            },
            &result));
        figures->AddTimes(name, std::move(result.us));
        figures->AddRate(
            name,
            absl::StrCat("raw/", store.tier == "ssd" ? "disk_read" : "reply",
                         "/", SizeName(size)),
            Rate(1.0 * size * batch * batches * clients, result.took));
        return absl::OkStatus();
      });
}

absl::Status MeasurePuts(const StoreUnderTest& store, bool smoke,
                         StoreFigures* figures) {
  return ForEachCase(
      absl::StrCat("put/", store.tier),
      [&](const std::string& name, size_t size, int batch, int clients) {
        const auto writers = std::span(store.writers).first(clients);
        int left = BatchesFor(size, batch, smoke);
        RunResult result;
        double bytes = 0;
        while (left > 0) {
          FC_RETURN_IF_ERROR(OpenFresh(writers));
          const int fit = writers[0]->PutsOfContext(BlocksOf(size)) / batch;
          // At smoke size a context has fewer puts than a batch.
          const int requests = fit > 0 ? batch
                                       : writers[0]->PutsOfContext(
                                             BlocksOf(size));
          const int batches = std::clamp(fit, 1, left);
          FC_RETURN_IF_ERROR(
              RunPuts(writers, BlocksOf(size), requests, batches, &result));
          FC_RETURN_IF_ERROR(CloseAll(writers));
          left -= batches;
          bytes += 1.0 * size * requests * batches * clients;
        }
        figures->AddTimes(name, std::move(result.us));
        figures->AddRate(name, absl::StrCat("raw/request/", SizeName(size)),
                         Rate(bytes, result.took));
        return absl::OkStatus();
      });
}

absl::Status MeasureDurablePuts(const StoreUnderTest& store,
                                StoreFigures* figures) {
  return ForEachCase(
      absl::StrCat("put/", store.tier),
      [&](const std::string& name, size_t size, int batch, int clients) {
        const auto writers = std::span(store.writers).first(clients);
        FC_RETURN_IF_ERROR(OpenFresh(writers));
        const int puts = writers[0]->PutsOfContext(BlocksOf(size));
        const int requests = std::min(batch, puts);
        RunResult result;
        FC_RETURN_IF_ERROR(RunPuts(writers, BlocksOf(size), requests,
                                   puts / requests, &result));
        std::vector<absl::StatusOr<std::vector<double>>> sealed(clients);
        const Nanos start = Now();
        std::vector<std::thread> threads;  // a durable seal waits
        for (int i = 0; i < clients; ++i) {
          threads.emplace_back(
              [&, i] { sealed[i] = writers[i]->Seal(0, /*durably=*/true); });
        }
        for (std::thread& thread : threads) thread.join();
        result.took += Now() - start;
        std::vector<double> seals_us;
        for (auto& one : sealed) {
          FC_RETURN_IF_ERROR(one.status());
          for (double ms : *one) seals_us.push_back(1e3 * ms);
        }
        FC_RETURN_IF_ERROR(CloseAll(writers));
        figures->AddTimes(name, std::move(seals_us));
        figures->AddRate(name, "raw/disk_write/1m",
                         Rate(1.0 * size * puts * clients, result.took));
        return absl::OkStatus();
      });
}

}  // namespace forecache
