// What the evaluation prints and writes.
#ifndef FORECACHE_EVAL_REPORT_H_
#define FORECACHE_EVAL_REPORT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "eval/runner.h"

namespace forecache::eval {

// A table for people, on standard output.
void PrintRows(const std::vector<Row>& rows);

// The same as Markdown, for docs/QUALITY.md.
absl::Status WriteMarkdown(const std::string& path,
                           const std::vector<Row>& rows);

// A list of {policy, budget, text, dnll, dnll_worst5, facts, facts_exact,
// compression, changed, fetch_bytes, scan_bytes, predict_us, tokens, dnll_low,
// dnll_high, rises}.  facts are null where a text has no questions.
absl::Status WriteJson(const std::string& path, const std::vector<Row>& rows);

// An SVG: rise of the loss over bytes moved and scanned a token, a panel for
// each text, a colour for each policy, a point for each budget.
absl::Status WritePlot(const std::string& path, const std::vector<Row>& rows);

}  // namespace forecache::eval

#endif  // FORECACHE_EVAL_REPORT_H_
