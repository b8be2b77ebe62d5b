#include "bench/wire_scaling.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "bench/wire_worker.h"
#include "common/status.h"
#include "demo/processes.h"
#include "nlohmann/json.hpp"

namespace forecache {
namespace {

using nlohmann::json;

constexpr int kStores = 2;
// Slow enough that two of them load no core.
constexpr char kLinkRate[] = "1gbit";
constexpr KvGeometry kScalingGeometry = {.layers = 1,
                                         .kv_heads = 8,
                                         .head_dim = 128,
                                         .group = 4,
                                         .type = KvType::kBF16};
constexpr int kScalingTokens = 4096;
constexpr int kScalingWindow = 8;  // fetches under way to each store

// Makes the worker's end of the network: a bridge that the links end in.  UCX
// finds its devices in /sys, so that must be the namespace's.
constexpr char kBridgeScript[] = R"(
why=$(exec 2>&1
  mount -t sysfs sysfs /sys && ip link set lo up &&
  ip link add br0 type bridge &&
  ip addr add 10.77.0.1/24 dev br0 && ip link set br0 up
) || { echo "no bridge: $why"; exit; }
exec "$@")";

// Makes a store's end, limited in what leaves it, and becomes the store.
constexpr char kLinkScript[] = R"(set -e
name=$1 address=$2 rate=$3
shift 3
mount -t sysfs sysfs /sys
ip link set lo up
ip link add eth0 type veth peer name "$name" netns "$PPID"
ip addr add "$address/24" dev eth0
ip link set eth0 up
tc qdisc add dev eth0 root tbf rate "$rate" burst 256kb latency 50ms
nsenter --net --target "$PPID" ip link set "$name" master br0
nsenter --net --target "$PPID" ip link set "$name" up
UCX_NET_DEVICES=eth0 exec "$@")";

std::vector<std::string> StoreArguments(const std::string& bin_dir, int store) {
  const std::string address = absl::StrCat("10.77.0.", 11 + store);
  return {"unshare",
          "--net",
          "--mount",
          "sh",
          "-c",
          kLinkScript,
          "sh",
          absl::StrCat("store", store),
          address,
          kLinkRate,
          bin_dir + "/kvstore/store",
          "--listen",
          address + ":0",
          "--insecure-allow-remote",
          "--transports",
          "tcp",
          "--dram-mib",
          "256",
          "--log-level",
          "warning"};
}

// What a process in a namespace of its own wrote to standard output.
absl::StatusOr<std::string> OutputInNamespace(
    std::vector<std::string> arguments) {
  std::vector<std::string> command = {
      "env", "unshare", "--net", "--mount", "sh", "-c", kBridgeScript, "sh"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  int out[2];
  if (pipe(out) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const pid_t parent = getpid();
  const pid_t child = fork();
  if (child < 0) return absl::ErrnoToStatus(errno, "fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    dup2(out[1], STDOUT_FILENO);
    close(out[0]);
    close(out[1]);
    // The signals that a Processes takes for itself are not for the child.
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    std::vector<char*> argv;
    for (std::string& argument : command) argv.push_back(argument.data());
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(out[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = read(out[0], buffer, sizeof(buffer))) != 0;) {
    if (got > 0) text.append(buffer, got);
  }
  close(out[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (text.empty()) {
    text = absl::StrCat("unshare --net --mount failed (exit code ",
                        WIFEXITED(status) ? WEXITSTATUS(status) : -1, ")");
  }
  return std::string(absl::StripSuffix(text, "\n"));
}

bool HasTool(const std::string& name) {
  for (const char* folder :
       {"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/", "/usr/local/bin/"}) {
    if (std::filesystem::exists(folder + name)) return true;
  }
  return false;
}

// Why scaling cannot be measured here; "" when it can, as far as is known.
std::string WhyNot() {
  if (geteuid() != 0) return "network namespaces need root";
  for (const char* tool : {"ip", "tc", "mount", "unshare", "nsenter"}) {
    if (!HasTool(tool)) return absl::StrCat(tool, " is not installed");
  }
  return "";
}

absl::StatusOr<json> Measure(const ScalingOptions& options) {
  demo::Processes processes;
  std::vector<std::unique_ptr<WireWorker>> workers;
  std::vector<WireContext> contexts;
  for (int store = 0; store < kStores; ++store) {
    PinToCore(StoreCore(store));
    const auto daemon =
        processes.Start(absl::StrCat("store-", store), "/usr/bin/env",
                        StoreArguments(options.bin_dir, store));
    if (!daemon.ok()) return daemon.status();
    PinToCore(kWorkerCore);
    UcxOptions ucx;
    ucx.transports = "tcp";
    ucx.net_devices = "br0";
    FC_ASSIGN_OR_RETURN(auto worker, WireWorker::Connect({daemon->grpc}, ucx));
    FC_ASSIGN_OR_RETURN(WireContext context,
                        worker->Fill(kScalingGeometry, kScalingTokens));
    workers.push_back(std::move(worker));
    contexts.push_back(std::move(context));
  }
  const double seconds = options.smoke ? 0.05 : 0.5;
  json figures = {{"1", json::array()}, {"2", json::array()}};
  for (int repeat = 0; repeat < options.repeats; ++repeat) {
    for (int stores = 1; stores <= kStores; ++stores) {
      std::vector<std::unique_ptr<FetchStream>> owned;
      std::vector<FetchStream*> streams;
      for (int store = 0; store < stores; ++store) {
        owned.push_back(std::make_unique<FetchStream>(
            workers[store].get(), &contexts[store],
            BlocksOfOnePush(kScalingGeometry), kScalingWindow));
        streams.push_back(owned.back().get());
      }
      FC_ASSIGN_OR_RETURN(const double rate, StreamRate(streams, seconds));
      figures[std::to_string(stores)].push_back(1e-9 * rate);
    }
  }
  return figures;
}

}  // namespace

int RunScalingWorker(const ScalingOptions& options) {
  const auto figures = Measure(options);
  if (!figures.ok()) {
    std::printf("%s\n", std::string(figures.status().message()).c_str());
    return 1;
  }
  std::printf("%s\n", figures->dump().c_str());
  return 0;
}

absl::Status MeasureScaling(const ScalingOptions& options,
                            WireReport* report) {
  std::string why = WhyNot();
  if (why.empty()) {
    std::vector<std::string> arguments = {
        std::filesystem::read_symlink("/proc/self/exe"), kScalingWorkerFlag,
        "--bin-dir", std::filesystem::absolute(options.bin_dir), "--repeats",
        std::to_string(options.repeats)};
    if (options.smoke) arguments.push_back("--smoke");
    FC_ASSIGN_OR_RETURN(why, OutputInNamespace(std::move(arguments)));
  }
  const json figures = json::parse(why, nullptr, /*allow_exceptions=*/false);
  if (figures.is_discarded()) {
    report->Note("scaling skipped", why);
    return absl::OkStatus();
  }
  report->Note("scaling", absl::StrCat("stores in network namespaces, a link "
                                       "of ", kLinkRate, " each"));
  for (const auto& [stores, rates] : figures.items()) {
    for (const double rate : rates) {
      report->AddRate(absl::StrCat("scaling_gbps/", stores), "GB/s", rate);
    }
  }
  report->AddRatio("scaling_2_stores", "scaling_gbps/2", "scaling_gbps/1");
  return absl::OkStatus();
}

}  // namespace forecache
