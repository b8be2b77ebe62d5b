#include "bench/wire_report.h"

#include <cmath>
#include <cstdio>
#include <utility>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace forecache {

BenchFigure* WireReport::Figure(const std::string& path) {
  for (BenchFigure& figure : figures_) {
    if (figure.name == path) return &figure;
  }
  figures_.push_back({.name = path});
  return &figures_.back();
}

const BenchFigure* WireReport::Find(const std::string& path) const {
  for (const BenchFigure& figure : figures_) {
    if (figure.name == path && !figure.samples.empty()) return &figure;
  }
  return nullptr;
}

void WireReport::AddTime(const std::string& path, const std::string& unit,
                         double sample) {
  BenchFigure* figure = Figure(path);
  figure->unit = unit;
  figure->samples.push_back(sample);
}

void WireReport::AddRate(const std::string& path, const std::string& unit,
                         double sample) {
  AddTime(path, unit, sample);
  Figure(path)->higher_is_better = true;
}

void WireReport::Add(const std::string& path, const BenchFigure& figure) {
  for (const double sample : figure.samples) {
    AddTime(path, figure.unit, sample);
  }
  Figure(path)->higher_is_better = figure.higher_is_better;
}

void WireReport::AddRatio(const std::string& path, const std::string& over,
                          const std::string& under) {
  ratios_.push_back({path, over, under});
}

void WireReport::SetGoal(const std::string& path, double bound) {
  goals_[path] = bound;
}

void WireReport::Note(const std::string& key, nlohmann::json value) {
  notes_[key] = std::move(value);
}

std::vector<WireReport::Row> WireReport::Rows() const {
  std::vector<Row> rows;
  for (const BenchFigure& figure : figures_) {
    rows.push_back({figure.name, figure.unit, figure.higher_is_better,
                    figure.Best(), figure.Median()});
  }
  for (const Ratio& ratio : ratios_) {
    const BenchFigure* over = Find(ratio.over);
    const BenchFigure* under = Find(ratio.under);
    if (over == nullptr || under == nullptr) continue;
    rows.push_back({ratio.path, "x", true, over->Best() / under->Best(),
                    over->Median() / under->Median()});
  }
  return rows;
}

std::string WireReport::Verdict(const Row& row) const {
  const auto goal = goals_.find(row.path);
  if (goal == goals_.end()) return "";
  const double bound = goal->second;
  const bool met =
      row.higher_is_better ? row.best >= bound : row.best <= bound;
  char text[64];
  if (met) {
    std::snprintf(text, sizeof(text), "%s %g: ok",
                  row.higher_is_better ? ">=" : "<=", bound);
  } else {
    std::snprintf(text, sizeof(text), "%s %g: missed by %.0f %%",
                  row.higher_is_better ? ">=" : "<=", bound,
                  100 * std::fabs(row.best - bound) / bound);
  }
  return text;
}

void WireReport::Print(bool goals) const {
  for (const auto& [key, value] : notes_.items()) {
    std::printf("  %s: %s\n", key.c_str(),
                value.is_string() ? value.get<std::string>().c_str()
                                  : value.dump().c_str());
  }
  std::printf("%-34s %10s %10s  %-9s %s\n", "figure", "median", "best", "unit",
              goals ? "goal, of the best repeat" : "");
  for (const Row& row : Rows()) {
    std::printf("%-34s %10.4g %10.4g  %-9s %s\n", row.path.c_str(), row.median,
                row.best, row.unit.c_str(), goals ? Verdict(row).c_str() : "");
  }
}

nlohmann::json WireReport::Json() const {
  nlohmann::json root;
  root["notes"] = notes_;
  for (const Row& row : Rows()) {
    // Not by a JSON pointer, which takes "4" for a place in a list.
    nlohmann::json* place = &root;
    for (const absl::string_view key : absl::StrSplit(row.path, '/')) {
      place = &(*place)[std::string(key)];
    }
    (*place)["best"] = row.best;
    (*place)["median"] = row.median;
    (*place)["unit"] = row.unit;
    const auto goal = goals_.find(row.path);
    if (goal != goals_.end()) (*place)["goal"] = goal->second;
  }
  return root;
}

}  // namespace forecache
