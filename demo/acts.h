// What the demo does, act by act, and what it found.
#ifndef FORECACHE_DEMO_ACTS_H_
#define FORECACHE_DEMO_ACTS_H_

#include <string>

#include "absl/status/status.h"
#include "demo/client.h"
#include "demo/story.h"

namespace forecache::demo {

struct Options {
  std::string bin_dir;       // with kvstore/store and worker/worker
  std::string story_dir;     // --story
  std::string model;         // --model
  std::string json;          // --json
  int context = kStoryTokens;   // --context
  double budget = 1.0 / 16;  // --budget
  std::string predictor = "last";  // --predictor
  std::string transports = "auto";  // --transports

  // A question or a continuation, with what was asked for.
  v1::GenerateRequest Request(v1::Mode mode) const;
};

// One mode's results over the whole story.
struct ModeResult {
  int facts = 0;
  Answer continuation;  // teacher-forced
};

// A store that was killed and started again in the middle of an answer.
struct KillFinding {
  bool same_answer = false;
  double pause_ms = 0;  // the longest wait for a token, from the death on
};

// A bit that was flipped in a stored block.
struct FlipFinding {
  double refused = 0;  // blocks
  bool same_answer = false;
  int recomputed_tokens = 0;
};

struct Findings {
  double cold_seconds = 0;  // first token, nothing in the store
  double warm_seconds = 0;  // first token, the same prompt again
  int warm_cached_tokens = 0;
  ModeResult exact, sparse;
  int facts_both = 0;  // recalled by exact and by sparse
  v1::Summary no_prefetch;
  int stream_facts = 0;
  double wrong_blocks = 0;  // over all answers
  v1::StatsReply store;  // before anything broke, as is
  v1::DescribeReply worker;
  KillFinding kill;
  FlipFinding flip;
};

// What a person sees of a decoded piece: one line, whatever it holds.
std::string OneLine(std::string text);

// Runs the acts, printing as it goes.
//
// Threads: one thread at a time.
class Acts {
 public:
  Acts(const Options& options, const Story& story, Client* client);

  absl::Status Run(Findings* findings);

 private:
  absl::Status Prefill(Findings* findings);
  absl::Status AskAll(Findings* findings);
  absl::Status Continue(Findings* findings);
  absl::Status Prove(Findings* findings);
  absl::StatusOr<Answer> Ask(v1::GenerateRequest request, bool show,
                             Findings* findings);
  v1::GenerateRequest Question(const Fact& fact, v1::Mode mode) const;
  void ShowPrefill(const v1::PrefillProgress& progress);

  const Options& options_;
  const Story& story_;
  Client* const client_;
};

}  // namespace forecache::demo

#endif  // FORECACHE_DEMO_ACTS_H_
