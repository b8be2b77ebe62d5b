// Runs policies over texts with a real store and worker, against exact
// attention on the same tokens.
#ifndef FORECACHE_EVAL_RUNNER_H_
#define FORECACHE_EVAL_RUNNER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "demo/client.h"
#include "eval/policy.h"
#include "eval/texts.h"

namespace forecache::eval {

// A share of the context, by its printed name: "1/16".
struct BudgetShare {
  std::string name;
  double share = 0;
};

// What one policy did at one budget on one text.
struct Row {
  std::string policy;
  std::string budget;
  std::string text;
  // Rise of the negative log-likelihood against exact attention, natural
  // logarithm: mean over the forced tokens, and mean of the worst 5 %.
  int tokens = 0;
  double dnll = 0;
  double dnll_worst5 = 0;
  double dnll_low = 0, dnll_high = 0;  // 95 % of bootstrap means
  std::vector<double> rises;           // of each token
  int facts = -1;                      // recalled; -1: the text has none
  int facts_exact = -1;
  double compression = 0;  // of the context's KV, all that the worker keeps
  double changed = 0;      // blocks fetched a (layer, KV head, token)
  double fetch_bytes = 0;  // a token
  double scan_bytes = 0;   // bytes of 16-bit keys that probes cover, a token
  double predict_us = 0;   // a token, all layers and heads
  double missed_mass = 0;  // of attention, as the worker estimates it
  double exact_layers = 0;  // a token: mode AUTO's
  std::vector<double> nll;  // of each token: of the exact row only
};

// The policy of the row that the others are held to: every block.
inline constexpr char kExact[] = "exact";

// Threads: one thread at a time.
class Runner {
 public:
  // Called before each request: what is done now.
  using Progress = std::function<void(const std::string& what)>;

  // `heads`: (layer, KV head)s of the model.
  Runner(demo::Client* client, int heads, Progress progress)
      : client_(client), heads_(heads), progress_(std::move(progress)) {}

  // Exact attention over the text.
  absl::StatusOr<Row> RunExact(const Text& text);
  // `exact`: that of the text.  Errors are the worker's: a budget below its
  // floor is kInvalidArgument.
  absl::StatusOr<Row> RunPolicy(const Text& text, const Policy& policy,
                                const BudgetShare& budget, const Row& exact);

 private:
  // What one run over a case left behind.
  struct Outcome {
    std::vector<double> nll;
    int recalled = 0;
    v1::Summary summary;  // of the forced run, or the last question's
    double tokens = 0;    // decoded in all
    double fetched_blocks = 0, fetched_bytes = 0, predict_seconds = 0;
    double scanned_bytes = 0;
    double missed_mass = 0, exact_layers = 0;
  };
  absl::StatusOr<Outcome> RunCase(const Case& one,
                                  const v1::GenerateRequest& mode);
  absl::Status RunOne(v1::GenerateRequest request, Outcome* outcome,
                      std::string* completion);
  // Runs the text's cases; `nll` gets that of all forced tokens.
  absl::StatusOr<Row> RunText(const Text& text, const v1::GenerateRequest& mode,
                              Row row, std::vector<double>* nll);

  demo::Client* const client_;
  const int heads_;
  const Progress progress_;
};

}  // namespace forecache::eval

#endif  // FORECACHE_EVAL_RUNNER_H_
