// What a tenant's fetches suffer from another tenant.
//
// One store with memory, SSD and two tenants who have equal shares of its
// bandwidth, of its probes' time and of its SSD, and half of its memory each,
// as floor and as ceiling.  The quiet one fetches 16 blocks of 4 KiB from
// memory every 5 ms; its latency counts from when a fetch was due.  The other
// one floods the store, with one thing at a time:
//   fetches       64 blocks from memory, 8 requests under way
//   fetches_ssd   16 blocks that lie on SSD, 8 under way
//   puts          contexts of 4 segments: opened, put, sealed and closed, more
//                 than its ceiling, so that it demotes and evicts its own
//   probes        of 32K tokens, 8 under way
//   lookups       of a prompt of 4K tokens that is held
//   sessions      opened over such a prompt, and closed
// as fast as it goes (FLOOD/all), and at a quarter of what it then reaches
// (FLOOD/quarter), which fits its share.  Each flood is measured between two
// idle times, again and again.
//
// Both clients share the core that the store has not, and the quiet one goes
// first there: what is measured is the store, not whom the core serves.
#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "bench/harness.h"
#include "bench/store_process.h"
#include "bench/tenant_gauges.h"
#include "bench/tenants_load.h"
#include "common/log.h"
#include "common/status.h"
#include "demo/processes.h"
#include "kvstore/secret.h"

namespace forecache {
namespace {

constexpr int kRepeats = 5;
constexpr double kGoal = 2;  // p99 over that of idle times
constexpr double kSmallShare = 0.25;
constexpr Nanos kWrittenWithin = 30 * kSecond;
constexpr char kQuietToken[] = "the quiet tenant's token";
constexpr char kNeighbourToken[] = "its neighbour's token";
constexpr uint64_t kQuietSeed = 1, kClosedSeed = 2;

// 4 KiB a block, 128 KiB a segment.
constexpr KvGeometry kGeometry = {.layers = 2,
                                  .kv_heads = 1,
                                  .head_dim = 64,
                                  .group = 4,
                                  .type = KvType::kBF16};

// Quiet latencies under one flood.
struct FloodFigures {
  std::vector<double> idle_p50, idle_p99, p50, p99, ratio, per_second;
  std::vector<double> idle_all, all;  // of all repeats
};

double PercentileOf(std::vector<double> us, double p) {
  BenchFigure figure;
  figure.samples = std::move(us);
  return figure.Percentile(p);
}

std::string HexSha256(const std::string& bytes) {
  const Sha256Digest digest = Sha256(std::as_bytes(std::span(bytes)));
  return absl::BytesToHexString(
      {reinterpret_cast<const char*>(digest.data()), digest.size()});
}

// Threads: one thread, and one that floods.
class TenantsBench {
 public:
  TenantsBench(Harness* harness, const StoreProcessFlags& flags,
               demo::Processes* processes)
      : harness_(harness),
        binary_(flags.binary()),
        options_(flags.ucx),
        phase_(harness->smoke() ? 100 * kMillisecond : 2 * kSecond),
        dram_mib_(harness->smoke() ? 16 : 112),
        ssd_mib_(harness->smoke() ? 256 : 2048),
        processes_(processes) {
    if (harness->smoke()) sizes_ = {.context = 8, .ssd_context = 24};
  }

  absl::Status Run();

 private:
  absl::Status WriteTenants();
  absl::Status Start();
  TenantsStore StoreFor(const char* token) const {
    return {store_.grpc, token, options_, kGeometry};
  }
  absl::Status Prepare();
  // The neighbour floods for as long as `meanwhile` takes.  Operations a
  // second.
  absl::StatusOr<double> FloodWhile(
      Flood flood, Nanos pause, const std::function<absl::Status()>& meanwhile);
  absl::Status Measure(Flood flood, double per_second, FloodFigures* figures);
  // Until the flood before has left nothing to be written to SSD.
  absl::Status AwaitWritten();
  absl::Status CheckHeld();
  void Record(const std::string& name, const FloodFigures& figures);

  Harness* const harness_;
  const std::string binary_;
  const UcxOptions options_;
  const Nanos phase_;
  const int dram_mib_;
  const int ssd_mib_;
  TenantsSizes sizes_;
  demo::Processes* const processes_;
  demo::Daemon store_;
  std::unique_ptr<StoreClient> quiet_;
  std::unique_ptr<Neighbour> neighbour_;
  double held_bytes_ = 0;  // by the quiet tenant, less than its floor
};

absl::Status TenantsBench::WriteTenants() {
  const size_t half = (size_t{1} * dram_mib_ << 20) / 2;
  // Beside both of these there is room for metadata.
  const size_t on_ssd = (size_t{1} * ssd_mib_ << 20) * 3 / 8;
  nlohmann::json tenants = nlohmann::json::array();
  for (const auto& [name, token] : {std::pair{"quiet", kQuietToken},
                                    std::pair{"neighbour", kNeighbourToken}}) {
    tenants.push_back(
        {{"name", name},
         {"secret", absl::StrCat("the secret of tenant ", name)},
         {"token_sha256", HexSha256(token)},
         {"dram", {{"floor_bytes", half}, {"ceiling_bytes", half}}},
         {"ssd", {{"floor_bytes", on_ssd}, {"ceiling_bytes", on_ssd}}},
         {"bandwidth_share", 1},
         {"probe_share", 1}});
  }
  const std::string path = processes_->folder() + "/tenants.json";
  std::ofstream file(path);
  file << nlohmann::json{{"tenants", tenants}}.dump(2) << "\n";
  file.close();
  return file ? absl::OkStatus()
              : absl::UnavailableError("cannot write " + path);
}

absl::Status TenantsBench::Start() {
  auto store = StartPinned(
      processes_, "store", binary_,
      {"--insecure", "--dram-mib", absl::StrCat(dram_mib_), "--log-level",
       "warning", "--tenants-file", processes_->folder() + "/tenants.json",
       "--ssd-dir", processes_->folder() + "/ssd", "--ssd-mib",
       absl::StrCat(ssd_mib_),
       "--ssd-scrub-mib-per-s", "0", "--ssd-promote-mib-per-s", "1"});
  FC_RETURN_IF_ERROR(store.status());
  store_ = *std::move(store);
  return absl::OkStatus();
}

absl::Status TenantsBench::Prepare() {
  FC_RETURN_IF_ERROR(WriteTenants());
  FC_RETURN_IF_ERROR(Start());
  {
    FC_ASSIGN_OR_RETURN(auto writer, ConnectTenant(StoreFor(kNeighbourToken)));
    FC_RETURN_IF_ERROR(
        writer->Open(ContextTokens(kSsdContextSeed, sizes_.ssd_context))
            .status());
    FC_RETURN_IF_ERROR(writer->Fill(0, /*durably=*/true));
  }
  // What is only on SSD is what a store finds there when it starts.
  processes_->Kill(store_);
  FC_RETURN_IF_ERROR(Start());
  FC_ASSIGN_OR_RETURN(quiet_, ConnectTenant(StoreFor(kQuietToken)));
  quiet_->CheckBytes();
  // One context that nothing pins, one that is read.
  for (const uint64_t seed : {kClosedSeed, kQuietSeed}) {
    FC_RETURN_IF_ERROR(
        quiet_->Open(ContextTokens(seed, sizes_.context)).status());
    FC_RETURN_IF_ERROR(quiet_->Fill(0, /*durably=*/true));
    if (seed == kClosedSeed) FC_RETURN_IF_ERROR(quiet_->Close());
  }
  FC_ASSIGN_OR_RETURN(
      neighbour_, Neighbour::Connect(StoreFor(kNeighbourToken), sizes_));
  FC_ASSIGN_OR_RETURN(held_bytes_, SettledHeldBytes(store_.metrics, "quiet"));
  return absl::OkStatus();
}

absl::StatusOr<double> TenantsBench::FloodWhile(
    Flood flood, Nanos pause, const std::function<absl::Status()>& meanwhile) {
  std::atomic<bool> stop{false};
  absl::StatusOr<double> per_second = 0;
  std::thread thread([&] {
    pthread_setname_np(pthread_self(), "neighbour");
    const sched_param none{};
    pthread_setschedparam(pthread_self(), SCHED_IDLE, &none);
    per_second = neighbour_->Run(flood, pause, stop);
  });
  const absl::Status status = meanwhile();
  stop = true;
  thread.join();
  FC_RETURN_IF_ERROR(status);
  return per_second;
}

absl::Status TenantsBench::Measure(Flood flood, double per_second,
                                   FloodFigures* figures) {
  FC_RETURN_IF_ERROR(AwaitWritten());
  std::vector<double> idle, us;
  FC_ASSIGN_OR_RETURN(idle, FetchQuietly(quiet_.get(), phase_));
  const Nanos pause =
      per_second > 0 ? static_cast<Nanos>(kSecond / per_second) : 0;
  FC_ASSIGN_OR_RETURN(
      const double reached, FloodWhile(flood, pause, [&] {
        auto fetched = FetchQuietly(quiet_.get(), phase_);
        if (fetched.ok()) us = *std::move(fetched);
        return fetched.status();
      }));
  figures->idle_p50.push_back(PercentileOf(idle, 50));
  figures->idle_p99.push_back(PercentileOf(idle, 99));
  figures->p50.push_back(PercentileOf(us, 50));
  figures->p99.push_back(PercentileOf(us, 99));
  figures->ratio.push_back(figures->p99.back() / figures->idle_p99.back());
  figures->per_second.push_back(reached);
  figures->idle_all.insert(figures->idle_all.end(), idle.begin(), idle.end());
  figures->all.insert(figures->all.end(), us.begin(), us.end());
  return CheckHeld();
}

absl::Status TenantsBench::AwaitWritten() {
  const Nanos start = Clock::Real()->Now();
  for (;;) {
    FC_ASSIGN_OR_RETURN(const StoreStats stats, quiet_->Stats());
    if (stats.ssd_queued_segments == 0) return absl::OkStatus();
    if (Clock::Real()->Now() - start > kWrittenWithin) {
      return absl::DeadlineExceededError(absl::StrCat(
          stats.ssd_queued_segments, " segments still wait for the SSD"));
    }
    FC_RETURN_IF_ERROR(
        FetchQuietly(quiet_.get(), 20 * kMillisecond).status());
  }
}

absl::Status TenantsBench::CheckHeld() {
  FC_ASSIGN_OR_RETURN(const double held,
                      TenantHeldBytes(store_.metrics, "quiet"));
  if (held >= held_bytes_) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("the quiet tenant holds ", held, " bytes of its ",
                   held_bytes_, ", which are below its floor"));
}

void TenantsBench::Record(const std::string& name,
                          const FloodFigures& figures) {
  const auto record = [&](const std::string& what, const std::string& unit,
                          const std::vector<double>& samples) {
    harness_->Record({name + what, unit, false, samples, ""});
  };
  record("/idle_p50", "us", figures.idle_p50);
  record("/idle_p99", "us", figures.idle_p99);
  record("/idle_p999", "us", {PercentileOf(figures.idle_all, 99.9)});
  record("/p50", "us", figures.p50);
  record("/p99", "us", figures.p99);
  record("/p999", "us", {PercentileOf(figures.all, 99.9)});
  record("/p99_over_idle", "x", figures.ratio);
  harness_->Record(
      {name + "/flood", "ops/s", true, figures.per_second, ""});
}

absl::Status TenantsBench::Run() {
  std::fprintf(stderr, "tenants: filling the store\n");
  FC_RETURN_IF_ERROR(Prepare());
  harness_->Note("transport", quiet_->TransportName());
  harness_->Note("fit the shares", "the floods .../quarter");
  harness_->Note("goal of their p99_over_idle, at most", kGoal);
  std::map<Flood, double> most;
  for (const Flood flood : kFloods) {
    FC_ASSIGN_OR_RETURN(most[flood], FloodWhile(flood, 0, [&] {
                          return FetchQuietly(quiet_.get(), phase_ / 2)
                              .status();
                        }));
  }
  std::map<std::pair<Flood, bool>, FloodFigures> figures;
  for (int repeat = 0; repeat < harness_->repeats(); ++repeat) {
    std::fprintf(stderr, "tenants: repeat %d of %d\n", repeat + 1,
                 harness_->repeats());
    for (const Flood flood : kFloods) {
      for (const bool small : {true, false}) {
        FC_RETURN_IF_ERROR(
            Annotate(Measure(flood, small ? kSmallShare * most[flood] : 0,
                             &figures[{flood, small}]),
                     FloodName(flood)));
      }
    }
  }
  for (const Flood flood : kFloods) {
    for (const bool small : {true, false}) {
      Record(absl::StrCat(FloodName(flood), small ? "/quarter" : "/all"),
             figures[{flood, small}]);
    }
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Harness harness("tenants");
  StoreProcessFlags flags;
  harness.flags().get_option("--repeats")->default_val(kRepeats);
  flags.AddTo(&harness.flags());
  if (auto code = harness.Parse(argc, argv)) return *code;
  InitLog("tenants_bench", LogLevel::kWarning);
  flags.UseDir();
  absl::Status status;
  {
    demo::Processes processes;
    status = TenantsBench(&harness, flags, &processes).Run();
  }
  return harness.Finish(status);
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
