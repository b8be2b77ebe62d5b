// ./forecache demo: the main job, on a real model and a real text.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <string>
#include <thread>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "common/clock.h"
#include "common/status.h"
#include "demo/acts.h"
#include "demo/fault_acts.h"
#include "demo/processes.h"
#include "demo/report.h"

namespace forecache::demo {
namespace {

enum ExitCode { kDone = 0, kCheckFailed = 1, kWrongUse = 2, kMissing = 3 };

constexpr int kStoreMib = 512;
constexpr int kSsdMib = 1024;
constexpr int kArenaMib = 256;

// "1/16" or "0.0625".
absl::StatusOr<double> ParseBudget(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  double top = 0, bottom = 1;
  const bool read =
      parts.size() <= 2 && absl::SimpleAtod(parts[0], &top) &&
      (parts.size() == 1 || absl::SimpleAtod(parts[1], &bottom));
  const double budget = bottom == 0 ? 0 : top / bottom;
  if (!read || !(budget > 0 && budget <= 1)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--budget: '", text, "' is not a share of the context such as 1/16"));
  }
  return budget;
}

int Fail(const absl::Status& status, ExitCode code) {
  std::fprintf(stderr, "\ndemo: %s\n", std::string(status.message()).c_str());
  return code;
}

absl::StatusOr<int> Play(const Options& options, const Story& story) {
  Processes processes;
  const Nanos started = Clock::Real()->Now();
  // With an SSD, so that it finds its segments again.
  StoreProcess store_process = {
      .binary = options.bin_dir + "/kvstore/store",
      .flags = {"--dram-mib", absl::StrCat(kStoreMib), "--transports",
                options.transports, "--ssd-dir", processes.folder() + "/ssd",
                "--ssd-mib", absl::StrCat(kSsdMib),
                "--enable-fault-injection"}};
  FC_ASSIGN_OR_RETURN(store_process.daemon,
                      processes.Start("store", store_process.binary,
                                      store_process.flags));
  const Daemon store = store_process.daemon;
  FC_ASSIGN_OR_RETURN(
      const Daemon worker,
      processes.Start("worker", options.bin_dir + "/worker/worker",
                      {"--store", store.grpc, "--model", options.model,
                       "--arena-mib", absl::StrCat(kArenaMib), "--transports",
                       options.transports}));
  Client client(worker.grpc, store.grpc, store.admin);
  FC_ASSIGN_OR_RETURN(const v1::DescribeReply about, client.Describe());
  std::printf("store  pid %d  grpc %s  metrics http://%s/metrics\n", store.pid,
              store.grpc.c_str(), store.metrics.c_str());
  std::printf("worker pid %d  grpc %s  metrics http://%s/metrics\n",
              worker.pid, worker.grpc.c_str(), worker.metrics.c_str());
  std::printf("model  %s: %u layers, %u query heads, %u KV heads, d=%u\n",
              about.model().c_str(), about.layers(), about.query_heads(),
              about.kv_heads(), about.head_dim());
  Findings findings;
  absl::Status acted = Acts(options, story, &client).Run(&findings);
  if (acted.ok()) {
    acted = FaultActs(options, story, &client, &processes, &store_process)
                .Run(&findings);
  }
  if (!acted.ok() && !Processes::Interrupted()) {
    std::fprintf(stderr, "\n-- end of the store's log --\n%s"
                 "-- end of the worker's log --\n%s",
                 processes.LogTail("store").c_str(),
                 processes.LogTail("worker").c_str());
  }
  FC_RETURN_IF_ERROR(acted);
  const double seconds =
      double(Clock::Real()->Now() - started) / double(kSecond);
  PrintTable(options, story, findings);
  const bool good = PrintChecks(options, findings);
  std::printf("  the demo took %.0f s\n", seconds);
  FC_RETURN_IF_ERROR(WriteJson(options, findings, seconds));
  return good ? kDone : kCheckFailed;
}

int Main(int argc, char** argv) {
  Options options;
  std::string budget = "1/16";
  CLI::App app(
      "Prefills a long text into a store, answers questions about it with "
      "1/16 of its KV in the worker, and compares with exact attention.",
      "./forecache demo");
  app.add_option("--json", options.json, "write the results to this file");
  app.add_option("--context", options.context, "tokens of the text, about")
      ->capture_default_str();
  app.add_option("--budget", budget, "share of the context that is resident")
      ->capture_default_str();
  app.add_option("--predictor", options.predictor, "last, ema, stream")
      ->capture_default_str();
  app.add_option("--transports", options.transports, "auto, tcp or shm")
      ->capture_default_str()
      ->check(CLI::IsMember({"auto", "tcp", "shm"}));
  app.add_option("--model", options.model, "GGUF file of a Llama model")
      ->required();
  app.add_option("--bin-dir", options.bin_dir, "where the daemons are")
      ->required()
      ->group("");
  app.add_option("--story", options.story_dir, "folder of the text")
      ->required()
      ->group("");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kWrongUse;
  }
  const absl::StatusOr<double> share = ParseBudget(budget);
  if (!share.ok()) return Fail(share.status(), kWrongUse);
  options.budget = *share;
  const absl::StatusOr<Story> story =
      LoadStory(options.story_dir, options.context);
  if (!story.ok()) {
    return Fail(story.status(), absl::IsInvalidArgument(story.status())
                                    ? kWrongUse
                                    : kMissing);
  }
  const absl::StatusOr<int> played = Play(options, *story);
  if (!played.ok()) {
    return Fail(played.status(), absl::IsInvalidArgument(played.status())
                                     ? kWrongUse
                                     : kMissing);
  }
  return *played;
}

}  // namespace
}  // namespace forecache::demo

int main(int argc, char** argv) { return forecache::demo::Main(argc, argv); }
