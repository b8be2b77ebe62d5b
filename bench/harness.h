// What every benchmark shares: flags, repeats, figures, the machine's state.
//
// A benchmark adds its cases, runs them interleaved (so that a noisy minute
// hurts all alike), and reports the median and the best beside the roofline
// that was measured in the same run.
//
//   Harness harness("kernels");
//   if (auto code = harness.Parse(argc, argv)) return *code;
//   harness.AddRoofline("memory read", "GB/s", bytes * 1e-9, [&] { ... });
//   harness.Add({.name = "decode", .unit = "GB/s", .work = bytes * 1e-9,
//                .roofline = "memory read", .call = [&] { ... }});
//   harness.Run();
//   return harness.Finish();
#ifndef FORECACHE_BENCH_HARNESS_H_
#define FORECACHE_BENCH_HARNESS_H_

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "nlohmann/json.hpp"

namespace forecache {

// Something to time.  Its figure is work / seconds of one call when `work` is
// positive, else the microseconds of one call.
struct BenchCase {
  std::string name;
  std::string unit = "us";
  double work = 0;       // of one call, in `unit` times seconds
  std::string roofline;  // name of the roofline to compare with, may be empty
  std::function<void()> call;
};

// The repeats of one figure.  Higher is better where it is a rate.
struct BenchFigure {
  std::string name;
  std::string unit;
  bool higher_is_better = false;
  std::vector<double> samples;
  std::string roofline;

  double Median() const;
  double Best() const;
  double Percentile(double p) const;  // p in 0..100
};

// Threads: one thread at a time.
class Harness {
 public:
  explicit Harness(const std::string& title);

  // A benchmark's own flags go here before Parse.
  CLI::App& flags() { return flags_; }
  // An exit code if the process should end (--help, a bad flag).
  std::optional<int> Parse(int argc, char** argv);

  bool smoke() const { return smoke_; }  // tiny sizes: does it run at all?
  const std::string& model() const { return model_; }
  int repeats() const { return smoke_ ? 1 : repeats_; }

  // A case whose name --filter does not contain is dropped.
  void Add(BenchCase bench_case);
  // A bound that other figures are compared with; never dropped.
  void AddRoofline(const std::string& name, const std::string& unit,
                   double work, std::function<void()> call);
  // Times all cases added since the last Run, `repeats` times in turn.  Short
  // calls are looped to fill a few milliseconds.
  void Run();

  // A figure that the benchmark measured by itself, e.g. latencies.
  void Record(BenchFigure figure);
  // A fact to keep beside the figures.
  void Note(const std::string& key, nlohmann::json value);

  const BenchFigure* Find(const std::string& name) const;

  // Prints the table, writes --json FILE.  Returns the exit code.
  int Finish();
  // The same when all went well; else tells what did not.
  int Finish(const absl::Status& status);

 private:
  struct Timed {
    BenchCase bench_case;
    int loops = 1;  // calls of one sample
    BenchFigure figure;
  };

  void Print() const;
  nlohmann::json Json() const;

  const std::string title_;
  CLI::App flags_;
  bool smoke_ = false;
  int repeats_ = 9;
  std::string filter_;
  std::string json_file_;
  std::string model_;
  std::vector<Timed> pending_;
  std::vector<BenchFigure> figures_;
  nlohmann::json notes_;
  double load_before_ = 0;
};

// The first number of /proc/loadavg, -1 where there is none.
double LoadAverage();
// "AMD EPYC, 2 CPUs".
std::string CpuDescription();

// Keeps the compiler from dropping a value that only a benchmark computes.
template <typename T>
inline void KeepAlive(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

}  // namespace forecache

#endif  // FORECACHE_BENCH_HARNESS_H_
