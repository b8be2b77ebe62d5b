#include "eval/report.h"

#include <algorithm>
#include <cstdio>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "eval/bootstrap.h"
#include "nlohmann/json.hpp"

namespace forecache::eval {
namespace {

constexpr double kKib = 1024;
constexpr double kMib = 1024 * 1024;

std::string FactsOf(const Row& row) {
  return row.facts < 0 ? "" : absl::StrCat(row.facts, "/", row.facts_exact);
}

std::string RiseOf(const Row& row) {
  return row.tokens == 0 ? "" : absl::StrFormat("%+.4f", row.dnll);
}

std::string IntervalOf(const Row& row) {
  return row.tokens == 0
             ? ""
             : absl::StrFormat("%+.3f..%+.3f", row.dnll_low, row.dnll_high);
}

// What a policy loses more than the oracle at the same budget and text, with
// its interval: token by token, so that what is hard for both cancels.
std::string AgainstOracle(const Row& row, const std::vector<Row>& rows) {
  for (const Row& oracle : rows) {
    if (oracle.policy != "oracle" || oracle.budget != row.budget ||
        oracle.text != row.text || row.rises.empty() ||
        oracle.rises.size() != row.rises.size() || &oracle == &row) {
      continue;
    }
    std::vector<double> more(row.rises);
    for (size_t i = 0; i < more.size(); ++i) more[i] -= oracle.rises[i];
    const Interval interval = BootstrapMean(more);
    return absl::StrFormat("%+.3f (%+.3f..%+.3f)", MeanOf(more), interval.low,
                           interval.high);
  }
  return "";
}

absl::Status WriteFile(const std::string& path, const std::string& flag,
                       const std::string& content) {
  std::ofstream file(path);
  file << content;
  file.close();
  return file.good() ? absl::OkStatus()
                     : absl::UnavailableError(
                           absl::StrCat(flag, ": cannot write ", path));
}

// In the order in which they first appear.
std::vector<std::string> ValuesOf(const std::vector<Row>& rows,
                                  std::string Row::*field) {
  std::vector<std::string> values;
  for (const Row& row : rows) {
    if (std::find(values.begin(), values.end(), row.*field) == values.end()) {
      values.push_back(row.*field);
    }
  }
  return values;
}

std::string RuleOf(size_t columns) {
  return absl::StrJoin(std::vector<std::string>(columns, "---"), "|");
}

// One policy over the texts.
template <typename CellOf>
std::string CellsOf(const std::string& policy,
                    const std::vector<std::string>& texts,
                    const std::vector<Row>& rows, CellOf cell_of) {
  std::string line = absl::StrCat("| `", policy, "`");
  for (const std::string& text : texts) {
    std::string cell;
    for (const Row& row : rows) {
      if (row.policy == policy && row.text == text) cell = cell_of(row);
    }
    absl::StrAppend(&line, " | ", cell);
  }
  return line + " |";
}

// What a policy costs, as means over the texts that it was run on.
std::string CostsOf(const std::string& policy, const std::vector<Row>& rows) {
  Row sum;
  int counted = 0, decoded = 0;
  for (const Row& row : rows) {
    if (row.policy != policy) continue;
    ++counted;
    decoded += row.tokens > 0;
    sum.dnll_worst5 += row.tokens > 0 ? row.dnll_worst5 : 0;
    sum.compression += row.compression;
    sum.changed += row.changed;
    sum.fetch_bytes += row.fetch_bytes;
    sum.scan_bytes += row.scan_bytes;
    sum.predict_us += row.predict_us;
  }
  return absl::StrFormat(
      " %.2f | %.1f | %.2f | %.0f | %.0f | %.1f |\n",
      sum.dnll_worst5 / std::max(decoded, 1), sum.compression / counted,
      sum.changed / counted, sum.fetch_bytes / kKib / counted,
      sum.scan_bytes / kMib / counted, sum.predict_us / 1000 / counted);
}

void AppendBudget(const std::string& budget, const std::vector<Row>& rows,
                  std::string* markdown) {
  const auto texts = ValuesOf(rows, &Row::text);
  const auto policies = ValuesOf(rows, &Row::policy);
  const std::string columns = absl::StrJoin(texts, " | ");
  absl::StrAppend(markdown, "| ", budget, " | ", columns,
                  " | worst 5 % | compression | changed | fetched KiB | "
                  "scanned MiB | predictor ms |\n|---|",
                  RuleOf(texts.size() + 6), "|\n");
  const auto rise_of = [](const Row& row) {
    return row.tokens > 0 ? absl::StrFormat("%+.3f (%s)", row.dnll,
                                            IntervalOf(row))
                          : FactsOf(row);
  };
  for (const std::string& policy : policies) {
    absl::StrAppend(markdown, CellsOf(policy, texts, rows, rise_of),
                    CostsOf(policy, rows));
  }
  absl::StrAppend(markdown, "\n");
  if (std::find(policies.begin(), policies.end(), "oracle") ==
      policies.end()) {
    return;
  }
  absl::StrAppend(markdown, "| ", budget, ", above `oracle` | ", columns,
                  " |\n|---|", RuleOf(texts.size()), "|\n");
  const auto above = [&rows](const Row& row) {
    return AgainstOracle(row, rows);
  };
  for (const std::string& policy : policies) {
    if (policy == "oracle") continue;
    absl::StrAppend(markdown, CellsOf(policy, texts, rows, above), "\n");
  }
  absl::StrAppend(markdown, "\n");
}

}  // namespace

void PrintRows(const std::vector<Row>& rows) {
  std::printf("\n%-8s %-6s %-16s %9s %16s %8s %7s %6s %8s %10s %9s %10s\n",
              "text", "budget", "policy", "rise", "95 %", "worst5%", "facts",
              "compr", "changed", "fetch KiB", "scan MiB", "predict us");
  for (const Row& row : rows) {
    std::printf(
        "%-8s %-6s %-16s %9s %16s %8.3f %7s %6.1f %8.2f %10.1f %9.2f %10.1f\n",
        row.text.c_str(), row.budget.c_str(), row.policy.c_str(),
        RiseOf(row).c_str(), IntervalOf(row).c_str(), row.dnll_worst5,
        FactsOf(row).c_str(), row.compression, row.changed,
        row.fetch_bytes / kKib, row.scan_bytes / kMib, row.predict_us);
  }
}

absl::Status WriteMarkdown(const std::string& path,
                           const std::vector<Row>& rows) {
  std::string markdown;
  for (const std::string& budget : ValuesOf(rows, &Row::budget)) {
    std::vector<Row> of_budget;
    for (const Row& row : rows) {
      if (row.budget == budget) of_budget.push_back(row);
    }
    AppendBudget(budget, of_budget, &markdown);
  }
  return WriteFile(path, "--markdown", markdown);
}

absl::Status WriteJson(const std::string& path, const std::vector<Row>& rows) {
  auto list = nlohmann::json::array();
  for (const Row& row : rows) {
    nlohmann::json one = {{"policy", row.policy},
                          {"budget", row.budget},
                          {"text", row.text},
                          {"dnll", nullptr},
                          {"dnll_worst5", nullptr},
                          {"dnll_low", nullptr},
                          {"dnll_high", nullptr},
                          {"facts", nullptr},
                          {"facts_exact", nullptr},
                          {"compression", row.compression},
                          {"changed", row.changed},
                          {"fetch_bytes", row.fetch_bytes},
                          {"scan_bytes", row.scan_bytes},
                          {"predict_us", row.predict_us},
                          {"tokens", row.tokens},
                          {"rises", row.rises},
                          {"missed_mass", row.missed_mass},
                          {"exact_layers", row.exact_layers}};
    if (row.tokens > 0) {
      one["dnll"] = row.dnll;
      one["dnll_worst5"] = row.dnll_worst5;
      one["dnll_low"] = row.dnll_low;
      one["dnll_high"] = row.dnll_high;
    }
    if (row.facts >= 0) {
      one["facts"] = row.facts;
      one["facts_exact"] = row.facts_exact;
    }
    if (!row.nll.empty()) one["nll"] = row.nll;
    list.push_back(std::move(one));
  }
  const std::string next = path + ".next";
  absl::Status status = WriteFile(next, "--json", list.dump(1) + "\n");
  if (status.ok() && std::rename(next.c_str(), path.c_str()) != 0) {
    status = absl::UnavailableError(
        absl::StrCat("--json: cannot replace ", path));
  }
  return status;
}

absl::StatusOr<std::vector<Row>> ReadJson(const std::string& path) {
  std::ifstream file(path);
  if (!file.good()) return std::vector<Row>();
  std::vector<Row> rows;
  try {
    for (const auto& one : nlohmann::json::parse(file)) {
      Row row{.policy = one.at("policy"),
              .budget = one.at("budget"),
              .text = one.at("text"),
              .tokens = one.at("tokens"),
              .rises = one.at("rises").get<std::vector<double>>(),
              .compression = one.at("compression"),
              .changed = one.at("changed"),
              .fetch_bytes = one.at("fetch_bytes"),
              .scan_bytes = one.at("scan_bytes"),
              .predict_us = one.at("predict_us"),
              .missed_mass = one.at("missed_mass"),
              .exact_layers = one.at("exact_layers")};
      if (row.tokens > 0) {
        row.dnll = one.at("dnll");
        row.dnll_worst5 = one.at("dnll_worst5");
        row.dnll_low = one.at("dnll_low");
        row.dnll_high = one.at("dnll_high");
      }
      if (!one.at("facts").is_null()) {
        row.facts = one.at("facts");
        row.facts_exact = one.at("facts_exact");
      }
      if (one.contains("nll")) {
        row.nll = one.at("nll").get<std::vector<double>>();
      }
      rows.push_back(std::move(row));
    }
  } catch (const nlohmann::json::exception& error) {
    return absl::DataLossError(absl::StrCat(
        "--json: ", path, " is no table of this program: ", error.what()));
  }
  return rows;
}

}  // namespace forecache::eval
