// What the evaluation prints and writes.
#ifndef FORECACHE_EVAL_REPORT_H_
#define FORECACHE_EVAL_REPORT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "eval/runner.h"

namespace forecache::eval {

// A table for people, on standard output.
void PrintRows(const std::vector<Row>& rows);

// The same as Markdown, for docs/QUALITY.md: for each budget a table of
// policies by texts, with what they cost as means over the texts, and one of
// what each loses more than the oracle.
absl::Status WriteMarkdown(const std::string& path,
                           const std::vector<Row>& rows);

// A list of {policy, budget, text, dnll, dnll_worst5, facts, facts_exact,
// compression, changed, fetch_bytes, scan_bytes, predict_us, tokens, dnll_low,
// dnll_high, rises, missed_mass, exact_layers}, in a text's exact row also nll,
// of each token.  facts are null where a text has no questions.  The file is
// replaced as a whole: a run that is stopped leaves the rows before.
absl::Status WriteJson(const std::string& path, const std::vector<Row>& rows);

// The rows of such a file; none where there is no file.  kDataLoss: it is not
// one.
absl::StatusOr<std::vector<Row>> ReadJson(const std::string& path);

// An SVG: rise of the loss over bytes moved and scanned a token, a panel for
// each text, a colour for each policy, a point for each budget.
absl::Status WritePlot(const std::string& path, const std::vector<Row>& rows);

}  // namespace forecache::eval

#endif  // FORECACHE_EVAL_REPORT_H_
