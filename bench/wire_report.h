// The figures of `bench wire`: by path, with goals, as a table and as JSON.
#ifndef FORECACHE_BENCH_WIRE_REPORT_H_
#define FORECACHE_BENCH_WIRE_REPORT_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bench/harness.h"
#include "nlohmann/json.hpp"

namespace forecache {

// A figure's path names it in the table, and its place in the JSON:
// "fetch_ratio/64k/tcp" is {"fetch_ratio": {"64k": {"tcp": {...}}}}.
//
// Threads: one thread.
class WireReport {
 public:
  // One more sample of a time, where less is better, or of a rate.
  void AddTime(const std::string& path, const std::string& unit,
               double sample);
  void AddRate(const std::string& path, const std::string& unit,
               double sample);
  // All samples of a figure that was measured elsewhere.
  void Add(const std::string& path, const BenchFigure& figure);
  // A figure made of two others: best over best, median over median.  A pair
  // that lacks samples is left out.
  void AddRatio(const std::string& path, const std::string& over,
                const std::string& under);
  // What the best repeat of a figure is held against: at most, or for rates
  // and ratios at least.
  void SetGoal(const std::string& path, double bound);
  // A fact beside the figures; of a figure's own path, beside its numbers.
  void Note(const std::string& key, nlohmann::json value);

  // With `goals`, a verdict for each figure that has one.
  void Print(bool goals) const;
  nlohmann::json Json() const;

 private:
  struct Ratio {
    std::string path, over, under;
  };
  struct Row {
    std::string path;
    std::string unit;
    bool higher_is_better = false;
    double best = 0;
    double median = 0;
  };

  BenchFigure* Figure(const std::string& path);
  const BenchFigure* Find(const std::string& path) const;
  std::vector<Row> Rows() const;
  std::string Verdict(const Row& row) const;

  std::vector<BenchFigure> figures_;
  std::vector<Ratio> ratios_;
  std::map<std::string, double> goals_;
  nlohmann::json notes_ = nlohmann::json::object();
};

}  // namespace forecache

#endif  // FORECACHE_BENCH_WIRE_REPORT_H_
