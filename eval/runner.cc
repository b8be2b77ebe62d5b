#include "eval/runner.h"

#include <algorithm>
#include <cctype>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "common/rng.h"
#include "common/status.h"

namespace forecache::eval {
namespace {

constexpr int kAnswerTokens = 14;
constexpr double kWorstShare = 0.05;
constexpr int kBootstraps = 1000;
constexpr uint64_t kBootstrapSeed = 1;

double Mean(const std::vector<double>& values) {
  return values.empty() ? 0
                        : std::accumulate(values.begin(), values.end(), 0.0) /
                              double(values.size());
}

// The mean, the mean of the worst, and a 95 % interval of the mean.
void Judge(Row* row) {
  const std::vector<double>& rises = row->rises;
  row->tokens = static_cast<int>(rises.size());
  if (rises.empty()) return;
  row->dnll = Mean(rises);
  std::vector<double> sorted = rises;
  std::sort(sorted.rbegin(), sorted.rend());
  sorted.resize(std::max<size_t>(1, size_t(double(sorted.size()) *
                                           kWorstShare)));
  row->dnll_worst5 = Mean(sorted);
  Rng rng(kBootstrapSeed);
  std::vector<double> means(kBootstraps);
  for (double& mean : means) {
    for (size_t i = 0; i < rises.size(); ++i) {
      mean += rises[rng.Below(rises.size())];
    }
    mean /= double(rises.size());
  }
  std::sort(means.begin(), means.end());
  row->dnll_low = means[kBootstraps * 25 / 1000];
  row->dnll_high = means[kBootstraps * 975 / 1000 - 1];
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

absl::StatusOr<Row> Runner::RunPolicy(const Text& text, const Policy& policy,
                                      const BudgetShare& budget,
                                      const std::vector<Outcome>& exact) {
  v1::GenerateRequest mode;
  policy.Describe(&mode);
  mode.set_budget_fraction(budget.share);
  Row row{.policy = policy.name, .budget = budget.name, .text = text.name};
  double tokens = 0, blocks = 0;
  for (size_t i = 0; i < text.cases.size(); ++i) {
    progress_(absl::StrCat(text.name, ", ", policy.name, " at ", budget.name,
                           text.cases.size() > 1
                               ? absl::StrCat(", context ", i + 1, " of ",
                                              text.cases.size())
                               : ""));
    FC_ASSIGN_OR_RETURN(const Outcome outcome, RunCase(text.cases[i], mode));
    for (size_t t = 0; t < outcome.nll.size(); ++t) {
      row.rises.push_back(outcome.nll[t] - exact[i].nll[t]);
    }
    if (!text.cases[i].questions.empty()) {
      row.facts = std::max(row.facts, 0) + outcome.recalled;
      row.facts_exact = std::max(row.facts_exact, 0) + exact[i].recalled;
    }
    tokens += outcome.tokens;
    blocks += outcome.fetched_blocks;
    row.fetch_bytes += outcome.fetched_bytes;
    row.scan_bytes += outcome.scanned_bytes;
    row.predict_us += outcome.predict_seconds * 1e6;
    row.compression += Compression(outcome.summary) / double(text.cases.size());
  }
  row.changed = blocks / heads_ / tokens;
  row.fetch_bytes /= tokens;
  row.scan_bytes /= tokens;
  row.predict_us /= tokens;
  Judge(&row);
  return row;
}

absl::StatusOr<std::vector<Row>> Runner::Run(
    const Text& text, const std::vector<Policy>& policies,
    const std::vector<BudgetShare>& budgets) {
  v1::GenerateRequest exact_mode;
  exact_mode.set_mode(v1::EXACT);
  std::vector<Outcome> exact;
  for (size_t i = 0; i < text.cases.size(); ++i) {
    progress_(absl::StrCat(text.name, ", exact, context ", i + 1, " of ",
                           text.cases.size()));
    FC_ASSIGN_OR_RETURN(Outcome outcome, RunCase(text.cases[i], exact_mode));
    exact.push_back(std::move(outcome));
  }
  std::vector<Row> rows;
  for (const BudgetShare& budget : budgets) {
    for (const Policy& policy : policies) {
      FC_ASSIGN_OR_RETURN(Row row, RunPolicy(text, policy, budget, exact));
      rows.push_back(std::move(row));
    }
  }
  return rows;
}

}  // namespace forecache::eval
