// ./forecache doctor: what this machine offers, and the fix where it lacks.

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <string>

#include "CLI/CLI.hpp"
#include "bench/machine.h"
#include "common/log.h"
#include "nlohmann/json.hpp"

namespace forecache {
namespace {

constexpr int kExitWrongUse = 2;
constexpr int kExitMissing = 3;

void Print(const Findings& findings) {
  for (const Finding& finding : findings) {
    printf("%-8s%-15s%s\n", LevelName(finding.level).c_str(),
           finding.name.c_str(), finding.value.c_str());
    if (!finding.fix.empty()) printf("%-23s%s\n", "", finding.fix.c_str());
  }
}

bool WriteJson(const Findings& findings, const std::string& path) {
  nlohmann::json list = nlohmann::json::array();
  for (const Finding& finding : findings) {
    list.push_back({{"name", finding.name},
                    {"level", LevelName(finding.level)},
                    {"value", finding.value},
                    {"fix", finding.fix}});
  }
  std::ofstream file(path);
  file << nlohmann::json{{"findings", list}}.dump(2) << "\n";
  file.close();
  return file.good();
}

int Main(int argc, char** argv) {
  CLI::App flags("What this machine offers to Forecache, and the fixes.  "
                 "Exit: 0 it will run, 3 something is missing.");
  std::string json;
  flags.add_option("--json", json, "write the findings to this file");
  try {
    flags.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return flags.exit(error) == 0 ? 0 : kExitWrongUse;
  }
  InitLog("doctor", LogLevel::kError);
  Findings findings;
  FindTransports(findings);  // first: it forks
  FindProcessor(findings);
  FindMemory(findings);
  FindStorage(findings);
  FindLibraries(findings);
  FindGpu(findings);
  Print(findings);
  if (!json.empty() && !WriteJson(findings, json)) {
    fprintf(stderr, "doctor: can't write %s\n", json.c_str());
    return kExitWrongUse;
  }
  const bool missing = std::ranges::any_of(findings, [](const auto& finding) {
    return finding.level == FindingLevel::kMissing;
  });
  return missing ? kExitMissing : 0;
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
