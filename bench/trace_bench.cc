// Prefix hit ratios of the eviction policies on traces of real requests.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "bench/harness.h"
#include "bench/trace_replay.h"
#include "common/status.h"
#include "kvstore/eviction/policy.h"
#include "nlohmann/json.hpp"

namespace forecache {
namespace {

constexpr int kWrongUse = 2;
constexpr int kSomethingMissing = 3;
constexpr uint64_t kSeed = 1;

struct Flags {
  std::string trace;
  std::string traces_dir;
  std::vector<size_t> capacities = {1'000,  3'000,  5'000,  10'000,
                                    20'000, 30'000, 50'000, 100'000};
  std::string json;
  bool smoke = false;
};

// Returns -1 to go on, or the exit code.
int ParseFlags(int argc, char** argv, Flags* flags) {
  CLI::App app("Forecache benchmark: eviction policies on traces.");
  app.add_option("--trace", flags->trace,
                 "a trace of Mooncake's form; default: all that are bundled");
  app.add_option("--traces", flags->traces_dir, "folder of those");
  app.add_option("--capacity", flags->capacities,
                 "blocks that fit; default: 1,000 to 100,000")
      ->check(CLI::Range(size_t{1}, size_t{1} << 32));
  app.add_option("--json", flags->json, "write the figures to this file");
  app.add_flag("--smoke", flags->smoke, "a small generated trace");
  // What every benchmark is given, and this one has no use for.
  std::string model;
  int repeats = 0;
  app.add_option("--model", model, "not used");
  app.add_option("--repeats", repeats, "not used: the result never changes");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kWrongUse;
  }
  return -1;
}

std::vector<std::string> TraceFiles(const Flags& flags) {
  if (!flags.trace.empty()) return {flags.trace};
  std::vector<std::string> files;
  std::error_code error;
  for (const auto& entry :
       std::filesystem::directory_iterator(flags.traces_dir, error)) {
    if (entry.path().extension() == ".jsonl") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

absl::StatusOr<std::vector<Trace>> Traces(const Flags& flags) {
  std::vector<Trace> traces;
  if (!flags.smoke) {
    for (const std::string& file : TraceFiles(flags)) {
      FC_ASSIGN_OR_RETURN(Trace trace, LoadTrace(file));
      traces.push_back(std::move(trace));
    }
  }
  if (traces.empty()) {
    if (!flags.smoke) {
      std::printf("no traces at hand (--trace FILE): a generated one\n");
    }
    traces.push_back(GenerateTrace(flags.smoke ? 300 : 5'000, kSeed));
  }
  return traces;
}

std::vector<ReplayResult> ReplayAll(const Trace& trace, size_t capacity) {
  std::vector<ReplayResult> results;
  for (const std::string& policy : EvictionPolicyNames()) {
    results.push_back(Replay(trace, policy, capacity));
  }
  results.push_back(ReplayBelady(trace, capacity));
  return results;
}

void PrintHeader(const Trace& trace, const std::vector<ReplayResult>& row) {
  std::printf("\n%s: prefix hit ratio, %% of all blocks (first half of the "
              "requests / second)\n%9s",
              trace.name.c_str(), "capacity");
  for (const auto& result : row) {
    std::printf("  %-20s", result.policy.c_str());
  }
  std::printf("\n");
}

void PrintRow(const std::vector<ReplayResult>& row) {
  std::printf("%9zu", row.front().capacity);
  for (const auto& result : row) {
    std::printf("  %5.2f (%5.2f /%6.2f)", 100 * result.HitRatio(),
                100 * result.HitRatioOfHalf(0),
                100 * result.HitRatioOfHalf(1));
  }
  std::printf("  ns/block:");
  for (const auto& result : row) std::printf(" %.0f", result.NanosPerBlock());
  std::printf("\n");
}

nlohmann::json JsonOf(const Trace& trace, const ReplayResult& result) {
  return {{"trace", trace.name},
          {"policy", result.policy},
          {"capacity", result.capacity},
          {"hit_ratio", result.HitRatio()},
          {"hit_ratio_first_half", result.HitRatioOfHalf(0)},
          {"hit_ratio_second_half", result.HitRatioOfHalf(1)},
          {"ns_per_block", result.NanosPerBlock()}};
}

int Run(const Flags& flags) {
  auto traces = Traces(flags);
  if (!traces.ok()) {
    std::cerr << "trace_bench: " << traces.status().message() << "\n";
    return absl::IsNotFound(traces.status()) ? kSomethingMissing : kWrongUse;
  }
  std::printf("%s, load %.1f\n", CpuDescription().c_str(), LoadAverage());
  nlohmann::json figures = nlohmann::json::array();
  const std::vector<size_t> small = {200, 1'000};
  for (const Trace& trace : *traces) {
    bool first = true;
    for (size_t capacity : flags.smoke ? small : flags.capacities) {
      const auto row = ReplayAll(trace, capacity);
      if (first) PrintHeader(trace, row);
      first = false;
      PrintRow(row);
      for (const auto& result : row) figures.push_back(JsonOf(trace, result));
    }
  }
  if (flags.json.empty()) return 0;
  std::ofstream file(flags.json);
  file << figures.dump(2) << "\n";
  file.close();
  if (file) return 0;
  std::cerr << "trace_bench: cannot write " << flags.json << "\n";
  return kSomethingMissing;
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) {
  forecache::Flags flags;
  int code = forecache::ParseFlags(argc, argv, &flags);
  if (code >= 0) return code;
  return forecache::Run(flags);
}
