// The transport between two processes: rates, latencies, throughput, on shared
// memory and on TCP.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/harness.h"
#include "bench/transport_pair.h"
#include "bench/ucx_perftest.h"
#include "common/check.h"
#include "common/log.h"
#include "common/status.h"
#include "transport/ucx_transport.h"

namespace forecache {
namespace {

constexpr size_t kStreamBytes = size_t{64} << 20;  // of one sample
constexpr int kWindow = 16;
constexpr int kBoundRepeatsMax = 5;  // each takes half a minute

struct Path {
  std::string name;  // as the figures are called
  std::unique_ptr<TransportPair> pair;
};

constexpr size_t kStreamSizes[] = {4 << 10, 8 << 10, 64 << 10, 256 << 10,
                                   1 << 20};

std::string SizeName(size_t size) {
  return size >= (1 << 20) ? absl::StrCat(size >> 20, "M")
                           : absl::StrCat(size >> 10, "K");
}

std::string StreamName(const std::string& path, size_t size) {
  return absl::StrCat(path, " stream ", SizeName(size));
}

std::string BoundName(const std::string& path, size_t size, const char* what) {
  return absl::StrCat(path, " perftest ", what, " ", SizeName(size));
}

int StreamCount(size_t size, bool smoke) {
  return std::max<size_t>(4, (smoke ? 1 << 20 : kStreamBytes) / size);
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
  for (size_t size : kStreamSizes) {
    const int count = StreamCount(size, smoke);
    FC_ASSIGN_OR_RETURN(seconds, path.pair->Stream(size, count, kWindow));
    AddSample(figures, StreamName(path.name, size), "GB/s", true,
              1e-9 * size * count / seconds);
  }
  return absl::OkStatus();
}

// One sample of what UCX's own benchmark reaches, with as many messages as ours
// have: once of the operations whose receiver is told, once of all.
absl::Status BoundRound(const Path& path, bool smoke,
                        std::vector<BenchFigure>& figures) {
  UcxPerftestOptions options;
  options.transports = path.name;
  for (size_t size : kStreamSizes) {
    if (smoke && size != kStreamSizes[0]) continue;
    options.size = size;
    options.iterations = StreamCount(size, smoke);
    FC_ASSIGN_OR_RETURN(const UcxPerftestResult message,
                        BestUcxPerftest(UcxMessageTests(), options));
    FC_ASSIGN_OR_RETURN(UcxPerftestResult any,
                        BestUcxPerftest({"ucp_put_bw", "ucp_get"}, options));
    if (message.bytes_per_second > any.bytes_per_second) any = message;
    AddSample(figures, BoundName(path.name, size, "message"), "GB/s", true,
              1e-9 * message.bytes_per_second);
    AddSample(figures, BoundName(path.name, size, "any"), "GB/s", true,
              1e-9 * any.bytes_per_second);
  }
  return absl::OkStatus();
}

// "tcp stream 4K: 96 % of ...".
void NoteRatios(Harness& harness, const std::vector<Path>& paths) {
  for (const Path& path : paths) {
    for (size_t size : kStreamSizes) {
      const BenchFigure* ours = harness.Find(StreamName(path.name, size));
      const BenchFigure* message =
          harness.Find(BoundName(path.name, size, "message"));
      const BenchFigure* any = harness.Find(BoundName(path.name, size, "any"));
      if (ours == nullptr || message == nullptr || any == nullptr) continue;
      harness.Note(
          absl::StrCat("ratio ", ours->name),
          absl::StrFormat("%.0f %% of ucx_perftest's best message operation, "
                          "%.0f %% of its best of all (put and get included)",
                          100 * ours->Best() / message->Best(),
                          100 * ours->Best() / any->Best()));
    }
  }
}

absl::Status Measure(Harness& harness,
                     const std::vector<std::string>& transport_lists,
                     const std::vector<std::string>& settings,
                     bool perftest) {
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
      if (!perftest || repeat >= kBoundRepeatsMax) continue;
      const absl::Status bound = BoundRound(path, harness.smoke(), figures);
      if (bound.ok()) continue;
      perftest = false;
      harness.Note("no ucx_perftest", bound.ToString());
    }
  }
  for (BenchFigure& figure : figures) {
    for (const Path& path : paths) {
      for (size_t size : kStreamSizes) {
        if (figure.name == StreamName(path.name, size)) {
          figure.roofline = BoundName(path.name, size, "any");
        }
      }
    }
    harness.Record(figure);
  }
  NoteRatios(harness, paths);
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
  bool no_perftest = false;
  harness.flags().add_flag("--no-perftest", no_perftest,
                           "do not run ucx_perftest beside our own figures");
  if (auto code = harness.Parse(argc, argv)) return *code;
  InitLog("transport_bench", LogLevel::kWarning);
  harness.Note("ucx", UcxVersion());
  const absl::Status measured =
      Measure(harness, transport_lists, settings, !no_perftest);
  if (!measured.ok()) {
    fprintf(stderr, "transport_bench: %s\n", measured.ToString().c_str());
    return 1;
  }
  return harness.Finish();
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
