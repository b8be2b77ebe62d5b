#include "bench/harness.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <thread>
#include <utility>

#include "common/check.h"

namespace forecache {
namespace {

// One sample lasts at least this long, so that the clock does not show in it.
constexpr double kSampleSeconds = 0.005;
constexpr int kLoopsMax = 1 << 20;
constexpr int kFailed = 3;  // the exit code

double SecondsOf(const std::function<void()>& call, int loops) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < loops; ++i) call();
  const std::chrono::duration<double> took =
      std::chrono::steady_clock::now() - start;
  return took.count();
}

}  // namespace

double BenchFigure::Percentile(double p) const {
  FC_CHECK(!samples.empty()) << name;
  std::vector<double> sorted = samples;
  std::sort(sorted.begin(), sorted.end());
  const double rank = p / 100 * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(rank);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = rank - static_cast<double>(below);
  return sorted[below] * (1 - part) + sorted[above] * part;
}

double BenchFigure::Median() const { return Percentile(50); }

double BenchFigure::Best() const {
  return Percentile(higher_is_better ? 100 : 0);
}

Harness::Harness(const std::string& title)
    : title_(title), flags_("Forecache benchmark: " + title) {
  flags_.add_flag("--smoke", smoke_, "tiny sizes and one repeat");
  flags_.add_option("--repeats", repeats_, "interleaved repeats")
      ->check(CLI::Range(1, 1000));
  flags_.add_option("--filter", filter_, "only cases whose name has this");
  flags_.add_option("--json", json_file_, "write the figures to this file");
  flags_.add_option("--model", model_, "GGUF file, where one is used");
}

std::optional<int> Harness::Parse(int argc, char** argv) {
  try {
    flags_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return flags_.exit(error);
  }
  load_before_ = LoadAverage();
  return std::nullopt;
}

void Harness::Add(BenchCase bench_case) {
  if (bench_case.name.find(filter_) == std::string::npos) return;
  Timed timed;
  timed.figure.name = bench_case.name;
  timed.figure.unit = bench_case.unit;
  timed.figure.roofline = bench_case.roofline;
  timed.figure.higher_is_better = bench_case.work > 0;
  timed.bench_case = std::move(bench_case);
  pending_.push_back(std::move(timed));
}

void Harness::AddRoofline(const std::string& name, const std::string& unit,
                          double work, std::function<void()> call) {
  const std::string filter = std::exchange(filter_, "");
  Add({.name = name, .unit = unit, .work = work, .roofline = "",
       .call = std::move(call)});
  filter_ = filter;
}

void Harness::Run() {
  for (Timed& timed : pending_) {
    // The first call warms caches and lazy state and is not counted.
    SecondsOf(timed.bench_case.call, 1);
    if (smoke_) continue;
    const double once = SecondsOf(timed.bench_case.call, 1);
    const double loops = std::ceil(kSampleSeconds / std::max(once, 1e-9));
    timed.loops = static_cast<int>(std::min<double>(loops, kLoopsMax));
  }
  for (int repeat = 0; repeat < repeats(); ++repeat) {
    for (Timed& timed : pending_) {
      const double seconds =
          SecondsOf(timed.bench_case.call, timed.loops) / timed.loops;
      timed.figure.samples.push_back(timed.bench_case.work > 0
                                         ? timed.bench_case.work / seconds
                                         : seconds * 1e6);
    }
  }
  for (Timed& timed : pending_) figures_.push_back(std::move(timed.figure));
  pending_.clear();
}

void Harness::Record(BenchFigure figure) {
  FC_CHECK(!figure.samples.empty()) << figure.name;
  figures_.push_back(std::move(figure));
}

void Harness::Note(const std::string& key, nlohmann::json value) {
  notes_[key] = std::move(value);
}

const BenchFigure* Harness::Find(const std::string& name) const {
  for (const BenchFigure& figure : figures_) {
    if (figure.name == name) return &figure;
  }
  return nullptr;
}

void Harness::Print() const {
  std::printf("%s on %s; load average %.2f before, %.2f after%s\n",
              title_.c_str(), CpuDescription().c_str(), load_before_,
              LoadAverage(), smoke_ ? "; SMOKE SIZES, NOT FIGURES" : "");
  for (const auto& [key, value] : notes_.items()) {
    std::printf("  %s: %s\n", key.c_str(),
                value.is_string() ? value.get<std::string>().c_str()
                                  : value.dump().c_str());
  }
  std::printf("%-44s %10s %10s  %-8s %s\n", "case", "median", "best", "unit",
              "best / roofline");
  for (const BenchFigure& figure : figures_) {
    std::printf("%-44s %10.4g %10.4g  %-8s", figure.name.c_str(),
                figure.Median(), figure.Best(), figure.unit.c_str());
    const BenchFigure* roofline = Find(figure.roofline);
    if (!figure.roofline.empty() && roofline != nullptr) {
      std::printf(" %.0f %% of %s", 100 * figure.Best() / roofline->Best(),
                  roofline->name.c_str());
    }
    std::printf("\n");
  }
}

nlohmann::json Harness::Json() const {
  nlohmann::json root;
  root["title"] = title_;
  root["smoke"] = smoke_;
  root["cpu"] = CpuDescription();
  root["load_before"] = load_before_;
  root["load_after"] = LoadAverage();
  root["notes"] = notes_;
  for (const BenchFigure& figure : figures_) {
    nlohmann::json row = {{"name", figure.name},
                          {"unit", figure.unit},
                          {"median", figure.Median()},
                          {"best", figure.Best()},
                          {"p99", figure.Percentile(99)},
                          {"samples", figure.samples.size()}};
    if (!figure.roofline.empty()) row["roofline"] = figure.roofline;
    root["figures"].push_back(std::move(row));
  }
  return root;
}

int Harness::Finish() {
  Print();
  if (json_file_.empty()) return 0;
  std::ofstream file(json_file_);
  file << Json().dump(2) << "\n";
  file.close();
  if (!file) {
    std::fprintf(stderr, "cannot write %s\n", json_file_.c_str());
    return 1;
  }
  return 0;
}

int Harness::Finish(const absl::Status& status) {
  if (status.ok()) return Finish();
  std::fprintf(stderr, "%s_bench: %s\n", title_.c_str(),
               status.ToString().c_str());
  return kFailed;
}

double LoadAverage() {
  double load = -1;
  std::ifstream("/proc/loadavg") >> load;
  return load;
}

std::string CpuDescription() {
  std::string model = "unknown CPU";
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("model name", 0) != 0) continue;
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) model = line.substr(colon + 2);
    break;
  }
  return model + ", " + std::to_string(std::thread::hardware_concurrency()) +
         " CPUs";
}

}  // namespace forecache
