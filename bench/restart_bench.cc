// The prefix hits of a trace, before and after a store dies.
//
// A store with SSD serves requests of a trace, as many again after that, and
// so does a second one that is killed in between (SIGKILL) and started again on
// its folder.  A request opens a session over its prompt: what the store holds
// of it is hits; the rest is put and sealed until it is durable.
//
// A block of the trace is played by one segment of one layer and one KV head.
// The SSD holds all of them, memory a part.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/harness.h"
#include "bench/store_client.h"
#include "bench/trace_replay.h"
#include "common/clock.h"
#include "common/log.h"
#include "common/status.h"
#include "demo/processes.h"

namespace forecache {
namespace {

constexpr KvGeometry kGeometry{.layers = 1,
                               .kv_heads = 1,
                               .head_dim = 32,
                               .group = 4,
                               .type = KvType::kBF16};
constexpr char kDramMib[] = "32";
constexpr int kSmokeRequests = 12;

// The tokens that stand for a prompt's blocks: equal ones for equal blocks.
std::vector<int32_t> TokensOf(const TraceRequest& request) {
  std::vector<int32_t> tokens;
  for (const SegmentId& block : request.blocks) {
    uint64_t seed = 0;
    std::memcpy(&seed, block.bytes.data(), sizeof(seed));
    const std::vector<int32_t> segment = ContextTokens(seed, 1);
    tokens.insert(tokens.end(), segment.begin(), segment.end());
  }
  return tokens;
}

struct Hits {
  double asked = 0, hit = 0, hit_ssd = 0;  // segments
  double Percent() const { return 100 * hit / asked; }
  double SsdPercent() const { return 100 * hit_ssd / asked; }
};

// Serves requests, one after the other.
absl::StatusOr<Hits> Serve(const demo::Daemon& store,
                           std::span<const TraceRequest> requests) {
  FC_ASSIGN_OR_RETURN(auto client,
                      StoreClient::Connect(store.grpc, {}, kGeometry));
  FC_ASSIGN_OR_RETURN(const StoreStats before, client->Stats());
  Hits hits;
  for (const TraceRequest& request : requests) {
    if (request.blocks.empty()) continue;
    FC_ASSIGN_OR_RETURN(const int held, client->Open(TokensOf(request)));
    hits.asked += static_cast<double>(request.blocks.size());
    hits.hit += held;
    FC_RETURN_IF_ERROR(client->Fill(held, /*durably=*/true));
    FC_RETURN_IF_ERROR(client->Close());
  }
  FC_ASSIGN_OR_RETURN(const StoreStats after, client->Stats());
  hits.hit_ssd = static_cast<double>(after.prefix_tokens_hit_ssd -
                                     before.prefix_tokens_hit_ssd) /
                 kSegmentTokens;
  return hits;
}

// One life of requests.
//
// Threads: one thread.
class Replayed {
 public:
  Replayed(Harness* harness, demo::Processes* processes, std::string binary,
           std::span<const TraceRequest> requests)
      : harness_(harness),
        processes_(processes),
        binary_(std::move(binary)),
        requests_(requests) {
    std::set<std::string> blocks;
    for (const TraceRequest& request : requests) {
      for (const SegmentId& block : request.blocks) {
        blocks.insert(block.ToHex());
      }
    }
    // An extent of 1 MiB for each, and what is kept for RocksDB.
    ssd_mib_ = blocks.size() + blocks.size() / 100 + 16;
  }

  absl::Status Run(const std::string& name, bool killed) {
    const size_t half = requests_.size() / 2;
    FC_ASSIGN_OR_RETURN(demo::Daemon store, Start(name));
    FC_ASSIGN_OR_RETURN(const Hits first,
                        Serve(store, requests_.first(half)));
    if (killed) {
      processes_->Kill(store);
      const Nanos start = Clock::Real()->Now();
      FC_ASSIGN_OR_RETURN(store, Start(name));
      Record("restart_ms", "ms",
             1e-6 * static_cast<double>(Clock::Real()->Now() - start));
    }
    FC_ASSIGN_OR_RETURN(const Hits second,
                        Serve(store, requests_.subspan(half)));
    Record("hit_ratio/first_half/" + name, "%", first.Percent());
    Record("hit_ratio/second_half/" + name, "%", second.Percent());
    Record("hit_ratio_ssd/second_half/" + name, "%", second.SsdPercent());
    processes_->Kill(store);
    std::error_code ignored;  // the folder goes with the process at the latest
    std::filesystem::remove_all(Folder(name), ignored);
    return absl::OkStatus();
  }

 private:
  std::string Folder(const std::string& name) const {
    return absl::StrCat(processes_->folder(), "/ssd-", name);
  }
  absl::StatusOr<demo::Daemon> Start(const std::string& name) {
    return processes_->Start(
        name, binary_,
        {"--dram-mib", kDramMib, "--ssd-dir", Folder(name), "--ssd-mib",
         absl::StrCat(ssd_mib_), "--log-level", "warning"});
  }
  void Record(const std::string& name, const std::string& unit,
              double value) {
    harness_->Record({name, unit, unit == "%", {value}, ""});
  }

  Harness* const harness_;
  demo::Processes* const processes_;
  const std::string binary_;
  const std::span<const TraceRequest> requests_;
  size_t ssd_mib_ = 0;
};

absl::Status Run(Harness* harness, const std::string& bin_dir,
                 const std::string& trace_file, size_t requests) {
  demo::Processes processes;
  Trace trace = GenerateTrace(/*conversations=*/100, /*seed=*/1);
  if (!trace_file.empty() && !harness->smoke()) {
    FC_ASSIGN_OR_RETURN(trace, LoadTrace(trace_file));
  }
  harness->Note("trace", trace.name);
  harness->Note("requests of a half", requests);
  const size_t count = std::min(2 * requests, trace.requests.size());
  Replayed replayed(harness, &processes, bin_dir + "/kvstore/store",
                    std::span(trace.requests).first(count));
  FC_RETURN_IF_ERROR(replayed.Run("undisturbed", /*killed=*/false));
  return replayed.Run("killed", /*killed=*/true);
}

int Main(int argc, char** argv) {
  Harness harness("restart");
  std::string bin_dir, trace;
  size_t requests = 150;
  harness.flags()
      .add_option("--bin-dir", bin_dir, "folder with kvstore/store")
      ->required();
  harness.flags().add_option(
      "--trace", trace, "a trace of Mooncake's form; default: a generated one");
  harness.flags()
      .add_option("--requests", requests, "of each half")
      ->check(CLI::Range(1, 10000));
  if (auto code = harness.Parse(argc, argv)) return *code;
  if (harness.smoke()) requests = kSmokeRequests;
  InitLog("restart_bench", LogLevel::kWarning);
  const absl::Status status = Run(&harness, bin_dir, trace, requests);
  return harness.Finish(status);
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
