#include "eval/runner.h"

#include <algorithm>
#include <cctype>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/status.h"
#include "eval/bootstrap.h"

namespace forecache::eval {
namespace {

constexpr int kAnswerTokens = 14;
constexpr double kWorstShare = 0.05;

// The mean, the mean of the worst, and a 95 % interval of the mean.
void Judge(Row* row) {
  const std::vector<double>& rises = row->rises;
  row->tokens = static_cast<int>(rises.size());
  if (rises.empty()) return;
  row->dnll = MeanOf(rises);
  std::vector<double> sorted = rises;
  std::sort(sorted.rbegin(), sorted.rend());
  sorted.resize(std::max<size_t>(1, size_t(double(sorted.size()) *
                                           kWorstShare)));
  row->dnll_worst5 = MeanOf(sorted);
  const Interval interval = BootstrapMean(rises);
  row->dnll_low = interval.low;
  row->dnll_high = interval.high;
}

double Compression(const v1::Summary& summary) {
  const double kept = double(summary.resident_bytes() +
                             summary.history_bytes() + summary.tail_bytes() +
                             summary.table_bytes());
  return kept == 0 ? 0 : double(summary.context_bytes()) / kept;
}

}  // namespace

absl::Status Runner::RunOne(v1::GenerateRequest request, Outcome* outcome,
                            std::string* completion) {
  FC_ASSIGN_OR_RETURN(
      const demo::Answer answer,
      client_->Generate(request, [&](const v1::GenerateEvent& event) {
        if (event.has_token() && !request.forced_text().empty()) {
          outcome->nll.push_back(event.token().nll());
        }
      }));
  *completion = answer.text;
  const v1::Summary& summary = answer.summary;
  outcome->summary = summary;
  outcome->tokens += summary.decoded_tokens() + summary.question_tokens();
  outcome->fetched_blocks += double(summary.predicted() + summary.corrected());
  outcome->fetched_bytes += double(summary.bytes_received());
  outcome->scanned_bytes += double(summary.probe_key_bytes());
  outcome->predict_seconds += summary.predict_seconds();
  const double decoded = summary.decoded_tokens() + summary.question_tokens();
  outcome->exact_layers += double(summary.exact_layers());
  outcome->missed_mass += summary.missed_mass() * decoded;
  if (summary.wrong_blocks() > 0) {
    return absl::DataLossError(
        absl::StrCat(summary.wrong_blocks(), " wrong blocks in the worker"));
  }
  return absl::OkStatus();
}

absl::StatusOr<Runner::Outcome> Runner::RunCase(
    const Case& one, const v1::GenerateRequest& mode) {
  Outcome outcome;
  std::string completion;
  v1::GenerateRequest request = mode;
  request.set_prompt(one.prompt);
  request.set_request_id("eval");
  // Time must not decide: a block that is late is waited for.
  request.set_late_policy(v1::STRICT);
  for (const Question& question : one.questions) {
    request.set_question(question.question);
    request.set_max_tokens(kAnswerTokens);
    FC_RETURN_IF_ERROR(RunOne(request, &outcome, &completion));
    outcome.recalled +=
        absl::StrContains(absl::AsciiStrToLower(completion),
                          absl::AsciiStrToLower(question.answer));
  }
  if (!one.forced.empty()) {
    request.clear_question();
    request.set_forced_text(one.forced);
    FC_RETURN_IF_ERROR(RunOne(request, &outcome, &completion));
  }
  return outcome;
}

absl::StatusOr<Row> Runner::RunText(const Text& text,
                                    const v1::GenerateRequest& mode, Row row,
                                    std::vector<double>* nll) {
  row.text = text.name;
  double tokens = 0, blocks = 0;
  for (size_t i = 0; i < text.cases.size(); ++i) {
    progress_(absl::StrCat(text.name, ", ", row.policy, " at ", row.budget,
                           text.cases.size() > 1
                               ? absl::StrCat(", context ", i + 1, " of ",
                                              text.cases.size())
                               : ""));
    FC_ASSIGN_OR_RETURN(const Outcome outcome, RunCase(text.cases[i], mode));
    nll->insert(nll->end(), outcome.nll.begin(), outcome.nll.end());
    if (!text.cases[i].questions.empty()) {
      row.facts = std::max(row.facts, 0) + outcome.recalled;
    }
    tokens += outcome.tokens;
    blocks += outcome.fetched_blocks;
    row.fetch_bytes += outcome.fetched_bytes;
    row.scan_bytes += outcome.scanned_bytes;
    row.predict_us += outcome.predict_seconds * 1e6;
    row.missed_mass += outcome.missed_mass;
    row.exact_layers += outcome.exact_layers;
    row.compression += Compression(outcome.summary) / double(text.cases.size());
  }
  row.changed = blocks / heads_ / tokens;
  for (double* sum : {&row.fetch_bytes, &row.scan_bytes, &row.predict_us,
                      &row.missed_mass, &row.exact_layers}) {
    *sum /= tokens;
  }
  return row;
}

absl::StatusOr<Row> Runner::RunExact(const Text& text) {
  v1::GenerateRequest mode;
  mode.set_mode(v1::EXACT);
  std::vector<double> nll;
  FC_ASSIGN_OR_RETURN(
      Row row, RunText(text, mode, {.policy = kExact, .budget = "1/1"}, &nll));
  row.facts_exact = row.facts;
  row.rises.assign(nll.size(), 0);
  row.nll = std::move(nll);
  Judge(&row);
  return row;
}

absl::StatusOr<Row> Runner::RunPolicy(const Text& text, const Policy& policy,
                                      const BudgetShare& budget,
                                      const Row& exact) {
  v1::GenerateRequest mode;
  policy.Describe(&mode);
  mode.set_budget_fraction(budget.share);
  std::vector<double> nll;
  FC_ASSIGN_OR_RETURN(
      Row row, RunText(text, mode,
                       {.policy = policy.name, .budget = budget.name}, &nll));
  if (nll.size() != exact.nll.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat("exact attention was run over ", exact.nll.size(),
                     " tokens of this text, now there are ", nll.size()));
  }
  for (size_t t = 0; t < nll.size(); ++t) {
    row.rises.push_back(nll[t] - exact.nll[t]);
  }
  row.facts_exact = exact.facts;
  Judge(&row);
  return row;
}

}  // namespace forecache::eval
