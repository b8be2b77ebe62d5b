// What this machine offers to Forecache, and what to do where it lacks.
#ifndef FORECACHE_BENCH_MACHINE_H_
#define FORECACHE_BENCH_MACHINE_H_

#include <string>
#include <vector>

namespace forecache {

enum class FindingLevel {
  kOk,
  kNote,     // works; something could be better
  kWarn,     // works, but slowly or not for long
  kMissing,  // Forecache does not run without it
};

struct Finding {
  std::string name;
  FindingLevel level = FindingLevel::kOk;
  std::string value;
  std::string fix;  // one line; empty when ok
};

// "ok", "note", "warn", "missing".
std::string LevelName(FindingLevel level);

// Each looks at one thing, and may add several findings.
using Findings = std::vector<Finding>;
void FindProcessor(Findings& findings);
void FindMemory(Findings& findings);
void FindStorage(Findings& findings);
void FindLibraries(Findings& findings);
void FindGpu(Findings& findings);
// Measures for about a second, between two processes.
// REQUIRES: this process has no other threads and no open transport.
void FindTransports(Findings& findings);

}  // namespace forecache

#endif  // FORECACHE_BENCH_MACHINE_H_
