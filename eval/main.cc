// ./forecache eval: what sparse attention loses, by policy, budget and text.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <iterator>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
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
                                       "last+c", "last+c+tail", "default"};
  std::vector<std::string> budgets = {"1/16", "1/32"};
  std::vector<std::string> texts = TextNames();
  TextOptions text;
  std::string json, plot, markdown, model, bin_dir;
  std::string store, worker;  // empty: started for the run
  bool full = false, resume = false;
};

// Every policy at every budget, by commas.
struct Table {
  std::string policies, budgets;
  std::string texts;  // "": all that were asked for
};

// --full: what docs/QUALITY.md shows, what matters most first.
constexpr char kLossTexts[] = "novel,maths,code,recall";
const Table kFullTables[] = {
    {"oracle,last+c+t+shared+lent,ema:0.3+c+t+shared+lent,paper/5,ema:0.02/5",
     "1/16,1/32", kLossTexts},
    {"default,oracle+tail,last+c+t+shared+lent+profile,"
     "last+c+t+shared+lent+tail,last+c+t0.05+shared+lent+profile,"
     "last+c+t0.05+shared+lent+profile+tail,"
     "last+c+t2+shared+lent+profile+tail,last+c+tail",
     "1/16,1/32", kLossTexts},
    {"oracle,default,last+c+t+shared+lent,last", "1/16,1/32", "facts"},
    {"last,stream,ema:0.3,linear4,h2o,quest,recycled,tactic,conv", "1/16",
     kLossTexts},
    {"oracle,default,last+c+t+shared+lent,paper/5", "1/8,1/64", kLossTexts},
    {"oracle,default,last", "1/16,1/32", "needle"},
    {"last,stream,ema:0.3,linear4,h2o,quest,recycled,tactic,conv",
     "1/32,1/64,1/8", kLossTexts},
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
struct Part {
  std::vector<Policy> policies;
  std::vector<BudgetShare> budgets;
  std::vector<std::string> texts;  // empty: all of the plan
};

struct Plan {
  std::vector<Part> parts;
  std::vector<Text> texts;
};

absl::StatusOr<Part> ReadTable(const Table& table) {
  Part part;
  for (const auto& policy : absl::StrSplit(table.policies, ',')) {
    FC_ASSIGN_OR_RETURN(Policy parsed, ParsePolicy(std::string(policy)));
    part.policies.push_back(std::move(parsed));
  }
  for (const auto& budget : absl::StrSplit(table.budgets, ',')) {
    FC_ASSIGN_OR_RETURN(BudgetShare share, ParseShare(std::string(budget)));
    part.budgets.push_back(std::move(share));
  }
  if (!table.texts.empty()) part.texts = absl::StrSplit(table.texts, ',');
  return part;
}

absl::StatusOr<Plan> MakePlan(const Options& options) {
  Plan plan;
  std::vector<Table> tables(std::begin(kFullTables), std::end(kFullTables));
  if (!options.full) {
    tables = {{absl::StrJoin(options.policies, ","),
               absl::StrJoin(options.budgets, ","), ""}};
  }
  for (const Table& table : tables) {
    FC_ASSIGN_OR_RETURN(Part part, ReadTable(table));
    plan.parts.push_back(std::move(part));
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

const Row* Find(const std::vector<Row>& rows, const std::string& text,
                const std::string& policy, const std::string& budget) {
  for (const Row& row : rows) {
    if (row.text == text && row.policy == policy && row.budget == budget) {
      return &row;
    }
  }
  return nullptr;
}

// Runs what `rows` does not have of a text, and writes them after each.
absl::Status EvaluateText(const Options& options, const Part& wanted,
                          const Text& text, Runner* runner,
                          std::vector<Row>* rows) {
  const auto add = [&](Row row) {
    rows->push_back(std::move(row));
    return Write(options, *rows);
  };
  for (const BudgetShare& budget : wanted.budgets) {
    for (const Policy& policy : wanted.policies) {
      if (Find(*rows, text.name, policy.name, budget.name) != nullptr) continue;
      const Row* exact = Find(*rows, text.name, kExact, "1/1");
      if (exact == nullptr) {
        FC_ASSIGN_OR_RETURN(Row row, runner->RunExact(text));
        FC_RETURN_IF_ERROR(add(std::move(row)));
        exact = &rows->back();
      }
      FC_ASSIGN_OR_RETURN(Row row,
                          runner->RunPolicy(text, policy, budget, *exact));
      FC_RETURN_IF_ERROR(add(std::move(row)));
    }
  }
  return absl::OkStatus();
}

// Starts what --store and --worker do not name.
absl::Status StartDaemons(const Options& options, demo::Processes* processes,
                          std::string* store, std::string* worker) {
  *store = options.store;
  *worker = options.worker;
  if (store->empty()) {
    FC_ASSIGN_OR_RETURN(
        const demo::Daemon daemon,
        processes->Start("store", options.bin_dir + "/kvstore/store",
                         {"--dram-mib", absl::StrCat(kStoreMib)}));
    *store = daemon.grpc;
  }
  if (worker->empty()) {
    FC_ASSIGN_OR_RETURN(
        const demo::Daemon daemon,
        processes->Start("worker", options.bin_dir + "/worker/worker",
                         {"--store", *store, "--model", options.model,
                          "--arena-mib", absl::StrCat(kArenaMib)}));
    *worker = daemon.grpc;
  }
  return absl::OkStatus();
}

absl::Status Evaluate(const Options& options, const Plan& plan,
                      std::vector<Row>* rows) {
  demo::Processes processes;
  std::string store, worker;
  FC_RETURN_IF_ERROR(StartDaemons(options, &processes, &store, &worker));
  demo::Client client(worker, store);
  FC_ASSIGN_OR_RETURN(const v1::DescribeReply about, client.Describe());
  const Nanos started = Clock::Real()->Now();
  Runner runner(&client, static_cast<int>(about.layers() * about.kv_heads()),
                [&](const std::string& what) {
                  const double seconds =
                      double(Clock::Real()->Now() - started) / kSecond;
                  std::printf("[%5.0f s] %s\n", seconds, what.c_str());
                  std::fflush(stdout);
                });
  for (const Part& wanted : plan.parts) {
    for (const Text& text : plan.texts) {
      if (!wanted.texts.empty() &&
          std::count(wanted.texts.begin(), wanted.texts.end(), text.name) ==
              0) {
        continue;
      }
      const size_t before = rows->size();
      const absl::Status status =
          EvaluateText(options, wanted, text, &runner, rows);
      if (!status.ok()) {
        return Annotate(status, absl::StrCat("text ", text.name));
      }
      if (rows->size() > before) {
        PrintRows({rows->begin() + before, rows->end()});
      }
    }
  }
  return Write(options, *rows);
}

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "\neval: %s\n", std::string(status.message()).c_str());
  return absl::IsInvalidArgument(status) ? kWrongUse : kMissing;
}

void AddFlags(CLI::App* app, Options* options) {
  app->add_option("--policy", options->policies,
                 "by commas: a predictor, oracle or default, with modifiers; "
                 "eval/policy.h explains them")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--budget", options->budgets,
                 "shares of the context that are resident, by commas")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--text", options->texts,
                 "novel, maths, code, recall, facts, needle or a folder of "
                 "text files, by commas")
      ->delimiter(',')
      ->capture_default_str();
  app->add_option("--tokens", options->text.tokens,
                 "of a context, its continuation included")
      ->check(CLI::Range(512, 1 << 20))
      ->capture_default_str();
  app->add_option("--decoded", options->text.decoded,
                 "tokens of the continuation, teacher-forced")
      ->check(CLI::Range(16, 4096))
      ->capture_default_str();
  app->add_option("--data", options->text.data,
                 "folder with the shared texts, text/ in it");
  app->add_option("--json", options->json,
                 "write the rows to this file, after each row");
  app->add_option("--worker", options->worker,
                 "host:port of a worker that runs already, of this model");
  app->add_option("--store", options->store,
                 "host:port of a store that runs already: that worker's");
  app->add_flag("--resume", options->resume,
               "keep the rows that the --json file has, and run only others");
  app->add_flag("--full", options->full,
               "the table of docs/QUALITY.md: hours; --resume goes on with it");
  app->add_option("--plot", options->plot, "write an SVG to this file");
  app->add_option("--markdown", options->markdown,
                 "write the table as Markdown to this file");
  app->add_option("--model", options->model, "GGUF file of a Llama model")
      ->required();
  app->add_option("--facts", options->text.facts, "facts to plant")
      ->required()
      ->group("");
  app->add_option("--bin-dir", options->bin_dir, "where the daemons are")
      ->required()
      ->group("");
}

int Main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Decodes texts teacher-forced, and answers questions about them, with a "
      "part of the context resident; prints what each policy loses against "
      "exact attention.",
      "./forecache eval");
  AddFlags(&app, &options);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kDone : kWrongUse;
  }
  const absl::StatusOr<Plan> plan = MakePlan(options);
  if (!plan.ok()) return Fail(plan.status());
  std::vector<Row> rows;
  if (options.resume) {
    absl::StatusOr<std::vector<Row>> read = ReadJson(options.json);
    if (!read.ok()) return Fail(read.status());
    rows = *std::move(read);
  }
  const absl::Status status = Evaluate(options, *plan, &rows);
  return status.ok() ? kDone : Fail(status);
}

}  // namespace
}  // namespace forecache::eval

int main(int argc, char** argv) { return forecache::eval::Main(argc, argv); }
