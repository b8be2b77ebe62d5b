// The demo's table, its JSON and its verdict.
#ifndef FORECACHE_DEMO_REPORT_H_
#define FORECACHE_DEMO_REPORT_H_

#include <string>

#include "absl/status/status.h"
#include "demo/acts.h"

namespace forecache::demo {

void PrintTable(const Options& options, const Story& story,
                const Findings& findings);

// Prints each check with its figure; false when one failed.
bool PrintChecks(const Options& options, const Findings& findings);

absl::Status WriteJson(const Options& options, const Findings& findings,
                       double demo_seconds);

}  // namespace forecache::demo

#endif  // FORECACHE_DEMO_REPORT_H_
