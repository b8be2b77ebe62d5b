// ./forecache eval: what sparse attention loses, by policy, budget and text.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/clock.h"
#include "common/status.h"
#include "demo/client.h"
#include "demo/processes.h"
#include "eval/policy.h"
#include "eval/report.h"
#include "eval/runner.h"
#include "eval/texts.h"

namespace forecache::eval {
namespace {

enum ExitCode { kDone = 0, kWrongUse = 2, kMissing = 3 };

constexpr int kStoreMib = 3072;
constexpr int kArenaMib = 512;

struct Options {
  std::vector<std::string> policies = {"stream", "oracle", "ema",    "last",
                                       "last+c", "last+tail", "default"};
  std::vector<std::string> budgets = {"1/16", "1/32"};
  std::vector<std::string> texts = TextNames();
  TextOptions text;
  std::string json, plot, markdown, model, bin_dir;
};

absl::StatusOr<BudgetShare> ParseShare(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  double top = 0, bottom = 1;
  if (parts.size() > 2 || !absl::SimpleAtod(parts[0], &top) ||
      (parts.size() == 2 && !absl::SimpleAtod(parts[1], &bottom)) ||
      !(bottom > 0 && top > 0 && top <= bottom)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--budget: '", text, "' is not a share of the context such as 1/16"));
  }
  return BudgetShare{text, top / bottom};
}

// Everything is read before anything is started, so that a mistake costs
// nothing.
struct Plan {
  std::vector<Policy> policies;
  std::vector<BudgetShare> budgets;
  std::vector<Text> texts;
};

absl::StatusOr<Plan> MakePlan(const Options& options) {
  Plan plan;
  for (const std::string& policy : options.policies) {
    FC_ASSIGN_OR_RETURN(Policy parsed, ParsePolicy(policy));
    plan.policies.push_back(std::move(parsed));
  }
  for (const std::string& budget : options.budgets) {
    FC_ASSIGN_OR_RETURN(BudgetShare share, ParseShare(budget));
    plan.budgets.push_back(std::move(share));
  }
  FC_ASSIGN_OR_RETURN(const auto tokenizer, LoadTokenizer(options.model));
  for (const std::string& name : options.texts) {
    auto text = LoadText(name, options.text, *tokenizer);
    if (absl::IsNotFound(text.status())) {
      std::printf("text %s left out: %s\n", name.c_str(),
                  std::string(text.status().message()).c_str());
      continue;
    }
    FC_RETURN_IF_ERROR(text.status());
    plan.texts.push_back(*std::move(text));
  }
  if (plan.texts.empty()) return absl::NotFoundError("no text is left");
  return plan;
}

absl::StatusOr<std::vector<Row>> Evaluate(const Options& options,
                                          const Plan& plan) {
  demo::Processes processes;
  FC_ASSIGN_OR_RETURN(
      const demo::Daemon store,
      processes.Start("store", options.bin_dir + "/kvstore/store",
                      {"--dram-mib", absl::StrCat(kStoreMib)}));
  FC_ASSIGN_OR_RETURN(
      const demo::Daemon worker,
      processes.Start("worker", options.bin_dir + "/worker/worker",
                      {"--store", store.grpc, "--model", options.model,
                       "--arena-mib", absl::StrCat(kArenaMib)}));
  demo::Client client(worker.grpc, store.grpc);
  FC_ASSIGN_OR_RETURN(const v1::DescribeReply about, client.Describe());
  const Nanos started = Clock::Real()->Now();
  Runner runner(&client, static_cast<int>(about.layers() * about.kv_heads()),
                [&](const std::string& what) {
                  const double seconds =
                      double(Clock::Real()->Now() - started) / kSecond;
                  std::printf("[%5.0f s] %s\n", seconds, what.c_str());
                  std::fflush(stdout);
                });
  std::vector<Row> rows;
  for (const Text& text : plan.texts) {
    auto more = runner.Run(text, plan.policies, plan.budgets);
    if (!more.ok()) {
      return Annotate(more.status(), absl::StrCat("text ", text.name));
    }
    PrintRows(*more);
    rows.insert(rows.end(), more->begin(), more->end());
  }
  return rows;
}

absl::Status Write(const Options& options, const std::vector<Row>& rows) {
  if (!options.json.empty()) {
    FC_RETURN_IF_ERROR(WriteJson(options.json, rows));
  }
  if (!options.plot.empty()) {
    FC_RETURN_IF_ERROR(WritePlot(options.plot, rows));
  }
  return options.markdown.empty() ? absl::OkStatus()
                                  : WriteMarkdown(options.markdown, rows);
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "\neval: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? kWrongUse : kMissing;
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Decodes texts teacher-forced, and answers questions about them, with a "
      "part of the context resident; prints what each policy loses against "
      "exact attention.",
      "./forecache eval");
  app.add_option("--policy", options.policies,
                 "NAME[:ALPHA][/EVERY][+c[N][@FLOOR]][+tail], by commas: a "
                 "predictor, oracle or default; the newest row's weight; "
                 "probes every so many tokens; N corrected blocks, of at least "
                 "that probability; the tail term")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--budget", options.budgets,
                 "shares of the context that are resident, by commas")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--text", options.texts,
                 "novel, maths, code, recall, facts, needle or a folder of "
                 "text files, by commas")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--tokens", options.text.tokens,
                 "of a context, its continuation included")
      ->check(CLI::Range(512, 1 << 20))
      ->capture_default_str();
  app.add_option("--decoded", options.text.decoded,
                 "tokens of the continuation, teacher-forced")
      ->check(CLI::Range(16, 4096))
      ->capture_default_str();
  app.add_option("--data", options.text.data,
                 "folder with the shared texts, text/ in it");
  app.add_option("--json", options.json, "write the rows to this file");
  app.add_option("--plot", options.plot, "write an SVG to this file");
  app.add_option("--markdown", options.markdown,
                 "write the table as Markdown to this file");
  app.add_option("--model", options.model, "GGUF file of a Llama model")
      ->required();
  app.add_option("--facts", options.text.facts, "facts to plant")
      ->required()
      ->group("");
  app.add_option("--bin-dir", options.bin_dir, "where the daemons are")
      ->required()
      ->group("");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kWrongUse;
  }
  const absl::StatusOr<Plan> plan = MakePlan(options);
  if (!plan.ok()) return Fail(plan.status());
  const absl::StatusOr<std::vector<Row>> rows = Evaluate(options, *plan);
  if (!rows.ok()) return Fail(rows.status());
  const absl::Status written = Write(options, *rows);
  return written.ok() ? kDone : Fail(written);
}

}  // namespace
}  // namespace forecache::eval

int main(int argc, char** argv) { return forecache::eval::Main(argc, argv); }
