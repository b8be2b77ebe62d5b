// The transport between two processes: rates, latencies, throughput, on shared
// memory and on TCP.

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/harness.h"
#include "bench/transport_pair.h"
#include "common/check.h"
#include "common/log.h"
#include "common/status.h"
#include "transport/ucx_transport.h"

namespace forecache {
namespace {

constexpr size_t kStreamBytes = size_t{64} << 20;  // of one sample
constexpr int kWindow = 16;

struct Path {
  std::string name;  // as the figures are called
  std::unique_ptr<TransportPair> pair;
};

std::string SizeName(size_t size) {
  return size >= (1 << 20) ? absl::StrCat(size >> 20, "M")
                           : absl::StrCat(size >> 10, "K");
}

// One more sample of a figure.
void AddSample(std::vector<BenchFigure>& figures, const std::string& name,
               const std::string& unit, bool higher_is_better, double sample) {
  for (BenchFigure& figure : figures) {
    if (figure.name == name) {
      figure.samples.push_back(sample);
      return;
    }
  }
  figures.push_back({name, unit, higher_is_better, {sample}, ""});
}

// One round of all cases on one path.
absl::Status Round(const Path& path, bool smoke,
                   std::vector<BenchFigure>& figures) {
  const int messages = smoke ? 500 : 50000;
  FC_ASSIGN_OR_RETURN(double seconds,
                      path.pair->Stream(64, messages, 4 * kWindow));
  AddSample(figures, absl::StrCat(path.name, " messages of 64 B"), "M/s", true,
            1e-6 * messages / seconds);
  struct Trip {
    const char* name;
    size_t request, reply;
  };
  const Trip trips[] = {{"round trip 64 B", 64, 64},
                        {"round trip 1K, answer 64K", 1024, 64 << 10},
                        {"round trip 1K, answer 256K", 1024, 256 << 10}};
  for (const Trip& trip : trips) {
    FC_ASSIGN_OR_RETURN(
        std::vector<double> times,
        path.pair->RoundTrips(trip.request, trip.reply, smoke ? 20 : 1000));
    BenchFigure round;
    round.samples = std::move(times);
    AddSample(figures, absl::StrCat(path.name, " ", trip.name, " p50"), "us",
              false, round.Percentile(50));
    AddSample(figures, absl::StrCat(path.name, " ", trip.name, " p99"), "us",
              false, round.Percentile(99));
  }
  for (size_t size : {4 << 10, 64 << 10, 256 << 10, 1 << 20}) {
    const int count = std::max<size_t>(4, (smoke ? 1 << 20 : kStreamBytes) /
                                              size);
    FC_ASSIGN_OR_RETURN(seconds, path.pair->Stream(size, count, kWindow));
    AddSample(figures, absl::StrCat(path.name, " stream ", SizeName(size)),
              "GB/s", true, 1e-9 * size * count / seconds);
  }
  return absl::OkStatus();
}

absl::Status Measure(Harness& harness,
                     const std::vector<std::string>& transport_lists,
                     const std::vector<std::string>& settings) {
  std::vector<Path> paths;
  for (const std::string& transports : transport_lists) {
    UcxOptions options;
    options.transports = transports;
    for (const std::string& setting : settings) {
      const size_t equals = setting.find('=');
      if (equals == std::string::npos) {
        return absl::InvalidArgumentError(
            absl::StrCat("--set ", setting, ": NAME=VALUE is expected"));
      }
      options.settings.emplace_back(setting.substr(0, equals),
                                    setting.substr(equals + 1));
    }
    FC_ASSIGN_OR_RETURN(auto pair, TransportPair::Fork(options));
    paths.push_back({"", std::move(pair)});
  }
  for (Path& path : paths) {
    FC_RETURN_IF_ERROR(path.pair->Open());
    path.name = path.pair->TransportName();
  }
  std::vector<BenchFigure> figures;
  for (int repeat = 0; repeat < harness.repeats(); ++repeat) {
    for (const Path& path : paths) {
      FC_RETURN_IF_ERROR(Round(path, harness.smoke(), figures));
    }
  }
  for (const BenchFigure& figure : figures) harness.Record(figure);
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Harness harness("transport");
  std::vector<std::string> settings;
  std::vector<std::string> transport_lists = {"all", "tcp"};
  harness.flags().add_option("--transports", transport_lists,
                             "what UCX may use, a list for each path");
  harness.flags().add_option("--set", settings,
                             "a UCX setting, NAME=VALUE without UCX_");
  if (auto code = harness.Parse(argc, argv)) return *code;
  InitLog("transport_bench", LogLevel::kWarning);
  harness.Note("ucx", UcxVersion());
  const absl::Status measured = Measure(harness, transport_lists, settings);
  if (!measured.ok()) {
    fprintf(stderr, "transport_bench: %s\n", measured.ToString().c_str());
    return 1;
  }
  return harness.Finish();
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
