// The wire between a worker and its store, beside what bounds it: gathers,
// fetches, probes, corrections, a whole token's round, and two stores.
//
// Store and worker are processes of their own on cores of their own; all cases
// of one repeat run before the next repeat begins.
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "bench/harness.h"
#include "bench/wire_bounds.h"
#include "bench/wire_cases.h"
#include "bench/wire_corrections.h"
#include "bench/wire_report.h"
#include "bench/wire_scaling.h"
#include "bench/wire_tokens.h"
#include "bench/wire_worker.h"
#include "common/log.h"
#include "common/status.h"
#include "demo/processes.h"

namespace forecache {
namespace {

constexpr int kRepeats = 5;
constexpr int kStores = 3;  // one alone, and two that share contexts
constexpr char kStoreDramMib[] = "3072";

struct Goal {
  const char* path;
  double bound;
};
// What issue 4 asks for.
constexpr Goal kGoals[] = {
    {"gather_256x4k_ms/tcp", 0.8},   {"gather_256x4k_ms/shm", 0.3},
    {"get_64k_p50_ms/tcp", 0.06},    {"fetch_ratio/4k/tcp", 0.9},
    {"fetch_ratio/4k/shm", 0.9},     {"fetch_ratio/8k/tcp", 0.9},
    {"fetch_ratio/8k/shm", 0.9},     {"fetch_ratio/64k/tcp", 0.9},
    {"fetch_ratio/64k/shm", 0.9},    {"fetch_ratio/1m/tcp", 0.9},
    {"fetch_ratio/1m/shm", 0.9},     {"correct_p50_ms/8k", 0.25},
    {"correct_p50_ms/32k", 0.75},    {"scaling_2_stores", 1.8}};

void Progress(const std::string& what) {
  std::fprintf(stderr, "wire: %s\n", what.c_str());
}

// Whether --filter leaves a group of figures in.
bool Wants(const std::string& name, const std::string& filter) {
  return name.find(filter) != std::string::npos;
}

// The token rounds of one path.
struct PathRounds {
  std::string figure;
  std::unique_ptr<TokenRounds> rounds;
};

// The cases that processes on this host serve.
//
// Threads: one thread.
class LocalCases {
 public:
  LocalCases(const WireSizes& sizes, bool smoke, const std::string& filter,
             WireReport* report)
      : sizes_(sizes), smoke_(smoke), filter_(filter), report_(report) {}

  // One store serves most cases, two of their own the tokens of two stores.
  absl::Status Prepare(const std::string& one,
                       const std::vector<std::string>& two);
  absl::Status Repeat();

 private:
  absl::Status Connect(const std::vector<std::string>& stores,
                       const std::string& transport,
                       std::vector<WirePath>* paths);
  absl::Status PrepareTokens(const std::vector<WirePath>& paths,
                             const WireContexts& contexts,
                             const std::string& stores);
  absl::Status RepeatBounds();

  const WireSizes sizes_;
  const bool smoke_;
  const std::string filter_;
  WireReport* const report_;
  bool has_perftest_ = true;
  WireContexts contexts_;      // at one store
  WireContexts two_contexts_;  // at two
  std::vector<WirePath> paths_;
  std::vector<WirePath> two_paths_;
  std::vector<PerftestBounds> bounds_;
  std::vector<PathRounds> rounds_;
};

absl::Status LocalCases::Connect(const std::vector<std::string>& stores,
                                 const std::string& transport,
                                 std::vector<WirePath>* paths) {
  UcxOptions options;
  options.transports = transport;
  FC_ASSIGN_OR_RETURN(auto worker, WireWorker::Connect(stores, options));
  report_->Note(absl::StrCat("transport ", transport),
                worker->TransportName());
  paths->push_back({transport, std::move(worker)});
  return absl::OkStatus();
}

absl::Status LocalCases::PrepareTokens(const std::vector<WirePath>& paths,
                                       const WireContexts& contexts,
                                       const std::string& stores) {
  for (const WirePath& path : paths) {
    for (const WireLength& length : WireLengths(contexts, sizes_)) {
      if (length.name == "8k") continue;
      PathRounds one{
          absl::StrCat(length.name, "/", stores, "/", path.name),
          std::make_unique<TokenRounds>(path.worker.get(), length.context,
                                        length.blocks)};
      // The first token fetches its whole budget.
      FC_RETURN_IF_ERROR(one.rounds->Next().status());
      rounds_.push_back(std::move(one));
    }
  }
  return absl::OkStatus();
}

absl::Status LocalCases::Prepare(const std::string& one,
                                 const std::vector<std::string>& two) {
  Progress("filling one store");
  for (const char* transport : {"tcp", "shm"}) {
    FC_RETURN_IF_ERROR(Connect({one}, transport, &paths_));
    bounds_.emplace_back(transport, smoke_);
    CompareWithPerftest(transport, report_);
  }
  FC_ASSIGN_OR_RETURN(contexts_,
                      FillContexts(sizes_, paths_.back().worker.get()));
  if (!Wants("token", filter_)) return absl::OkStatus();
  FC_RETURN_IF_ERROR(PrepareTokens(paths_, contexts_, "1_store"));
  // Only the worker that put a context into two stores knows where it lies.
  Progress("filling two stores");
  FC_RETURN_IF_ERROR(Connect(two, "shm", &two_paths_));
  FC_ASSIGN_OR_RETURN(two_contexts_,
                      FillLongContexts(sizes_, two_paths_.back().worker.get()));
  return PrepareTokens(two_paths_, two_contexts_, "2_stores");
}

absl::Status LocalCases::RepeatBounds() {
  for (PerftestBounds& bounds : bounds_) {
    if (!has_perftest_) break;
    const absl::Status status = bounds.Measure(report_);
    if (absl::IsNotFound(status)) {
      has_perftest_ = false;
      report_->Note("fetch_ratio skipped", status.message());
    } else if (!status.ok()) {
      return status;
    }
  }
  return absl::OkStatus();
}

absl::Status LocalCases::Repeat() {
  constexpr struct {
    const char* name;
    decltype(&MeasureGathers) measure;
  } kCases[] = {{"gather", &MeasureGathers},
                {"fetch", &MeasureFetchRates},
                {"probe", &MeasureProbes},
                {"correct", &MeasureCorrections}};
  for (const WirePath& path : paths_) {
    for (const auto& one : kCases) {
      if (!Wants(one.name, filter_)) continue;
      FC_RETURN_IF_ERROR(one.measure(path, contexts_, sizes_, report_));
    }
  }
  if (Wants("perftest", filter_)) FC_RETURN_IF_ERROR(RepeatBounds());
  for (const PathRounds& one : rounds_) {
    FC_RETURN_IF_ERROR(MeasureTokens(one.figure, one.rounds.get(),
                                     sizes_.tokens, report_));
  }
  return absl::OkStatus();
}

absl::Status MeasureLocal(const Harness& harness, const std::string& bin_dir,
                          const std::string& filter,
                          const std::vector<std::string>& store_flags,
                          WireReport* report) {
  demo::Processes processes;
  std::vector<demo::Daemon> stores;
  std::vector<std::string> flags = {"--dram-mib", kStoreDramMib, "--log-level",
                                    "warning"};
  flags.insert(flags.end(), store_flags.begin(), store_flags.end());
  for (int store = 0; store < kStores; ++store) {
    PinToCore(StoreCore(std::max(0, store - 1)));
    auto daemon = processes.Start(
        absl::StrCat("store-", store), bin_dir + "/kvstore/store",
        flags);
    if (!daemon.ok()) return daemon.status();
    stores.push_back(*std::move(daemon));
  }
  PinToCore(kWorkerCore);
  LocalCases cases(WireSizesFor(harness.smoke()), harness.smoke(), filter,
                   report);
  FC_RETURN_IF_ERROR(
      cases.Prepare(stores[0].grpc, {stores[1].grpc, stores[2].grpc}));
  for (int repeat = 0; repeat < harness.repeats(); ++repeat) {
    Progress(absl::StrCat("repeat ", repeat + 1, " of ", harness.repeats()));
    FC_RETURN_IF_ERROR(cases.Repeat());
  }
  size_t resident = 0;
  for (const demo::Daemon& store : stores) {
    resident += demo::ResidentMemory(store.pid);
  }
  report->Note("stores' resident MiB", resident >> 20);
  return absl::OkStatus();
}

absl::Status Measure(Harness& harness, const std::string& bin_dir,
                     const std::vector<std::string>& store_flags,
                     WireReport* report) {
  const std::string filter =
      harness.flags().get_option("--filter")->as<std::string>();
  FC_RETURN_IF_ERROR(
      MeasureLocal(harness, bin_dir, filter, store_flags, report));
  if (Wants("scan", filter)) {
    Progress("scans");
    MeasureScans(&harness, report);
  }
  if (!Wants("scaling", filter)) return absl::OkStatus();
  Progress("two stores behind links of their own");
  return MeasureScaling({bin_dir, harness.smoke(), harness.repeats()}, report);
}

absl::Status WriteJson(const std::string& path, const nlohmann::json& json) {
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path);
  file << json.dump(2) << "\n";
  file.close();
  if (file) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("cannot write ", path));
}

absl::Status Run(Harness& harness, const std::string& bin_dir,
                 const std::vector<std::string>& store_flags,
                 const std::string& json_file) {
  WireReport report;
  for (const Goal& goal : kGoals) report.SetGoal(goal.path, goal.bound);
  const double load_before = LoadAverage();
  report.Note("ucx", UcxVersion());
  report.Note("operation", "active messages, the store pushes");
  report.Note("cores", absl::StrCat("worker ", kWorkerCore, ", store ",
                                    StoreCore(0), ", second store ",
                                    StoreCore(1)));
  report.Note("token rounds",
              "32 layers, 4 under way; a context has 8 up to 32k and 2 up to "
              "128k, used by turns; 128 blocks of a KV head are resident");
  report.Note("store flags", absl::StrJoin(store_flags, " "));
  FC_RETURN_IF_ERROR(Measure(harness, bin_dir, store_flags, &report));
  const double load_after = LoadAverage();
  std::printf("wire on %s; load average %.2f before, %.2f after; %d repeats",
              CpuDescription().c_str(), load_before, load_after,
              harness.repeats());
  std::printf("%s\n",
              harness.smoke() ? "; SMOKE SIZES, NOT FIGURES" : "");
  report.Print(!harness.smoke());
  nlohmann::json json = report.Json();
  json["title"] = "wire";
  json["smoke"] = harness.smoke();
  json["repeats"] = harness.repeats();
  json["cpu"] = CpuDescription();
  json["load_before"] = load_before;
  json["load_after"] = load_after;
  return WriteJson(json_file, json);
}

int Main(int argc, char** argv) {
  Harness harness("wire");
  std::string bin_dir;
  std::vector<std::string> store_flags;
  bool in_namespace = false;
  harness.flags().get_option("--repeats")->default_val(kRepeats);
  harness.flags()
      .add_option("--bin-dir", bin_dir, "folder with kvstore/store")
      ->required();
  harness.flags().add_option(
      "--store-flag", store_flags,
      "for the stores, as --store-flag=--probe-codes=2; may be repeated");
  harness.flags()
      .add_flag(kScalingWorkerFlag, in_namespace)
      ->group("");  // not for people
  if (const auto code = harness.Parse(argc, argv)) return *code;
  InitLog("wire_bench", LogLevel::kWarning);
  if (in_namespace) {
    return RunScalingWorker({bin_dir, harness.smoke(), harness.repeats()});
  }
  const absl::Status status =
      Run(harness, bin_dir, store_flags,
          harness.flags().get_option("--json")->as<std::string>());
  if (status.ok()) return 0;
  std::fprintf(stderr, "wire_bench: %s\n", status.ToString().c_str());
  return 3;
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
