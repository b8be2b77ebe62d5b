#include "demo/acts.h"

#include <unistd.h>

#include <cstdio>

#include "common/status.h"

namespace forecache::demo {
namespace {

constexpr int kAnswerTokens = 14;
constexpr int kContinuationTokens = 40;  // printed, not judged
constexpr char kNoBlocks[] = "stream";   // the predictor that chooses none

bool IsTerminal() { return isatty(STDOUT_FILENO) == 1; }

}  // namespace

std::string OneLine(std::string text) {
  for (char& c : text) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  return text;
}

v1::GenerateRequest Options::Request(v1::Mode mode) const {
  v1::GenerateRequest request;
  request.set_mode(mode);
  request.set_budget_fraction(budget);
  request.set_predictor(predictor);
  return request;
}

Acts::Acts(const Options& options, const Story& story, Client* client)
    : options_(options), story_(story), client_(client) {}

absl::Status Acts::Run(Findings* findings) {
  FC_RETURN_IF_ERROR(Prefill(findings));
  FC_RETURN_IF_ERROR(AskAll(findings));
  FC_RETURN_IF_ERROR(Continue(findings));
  FC_RETURN_IF_ERROR(Prove(findings));
  FC_ASSIGN_OR_RETURN(findings->worker, client_->Describe());
  FC_ASSIGN_OR_RETURN(findings->store, client_->StoreStats());
  return absl::OkStatus();
}

absl::StatusOr<Answer> Acts::Ask(v1::GenerateRequest request, bool show,
                                 Findings* findings) {
  FC_ASSIGN_OR_RETURN(
      Answer answer,
      client_->Generate(request, [&](const v1::GenerateEvent& event) {
        if (!show || !event.has_token()) return;
        std::printf("%s", OneLine(event.token().text()).c_str());
        std::fflush(stdout);
      }));
  findings->wrong_blocks += double(answer.summary.wrong_blocks());
  return answer;
}

v1::GenerateRequest Acts::Question(const Fact& fact, v1::Mode mode) const {
  v1::GenerateRequest request = options_.Request(mode);
  request.set_prompt(story_.text);
  request.set_question(fact.question);
  request.set_request_id("question");
  request.set_max_tokens(kAnswerTokens);
  request.add_stop("\n");
  return request;
}

void Acts::ShowPrefill(const v1::PrefillProgress& progress) {
  const absl::StatusOr<v1::StatsReply> stats = client_->StoreStats();
  std::printf("%s  %5u of %u tokens computed", IsTerminal() ? "\r" : "",
              progress.done_tokens(), progress.total_tokens());
  if (stats.ok()) {
    std::printf("; the store holds %llu segments, %.1f MiB of %.0f",
                static_cast<unsigned long long>(stats->segments()),
                double(stats->dram_bytes()) / (1 << 20),
                double(stats->dram_capacity_bytes()) / (1 << 20));
  }
  std::printf("%s", IsTerminal() ? "   " : "\n");
  std::fflush(stdout);
}

absl::Status Acts::Prefill(Findings* findings) {
  std::printf("\n1. Prefill: the text's KV goes to the store\n");
  v1::GenerateRequest request = Question(story_.facts[0], v1::SPARSE);
  request.set_max_tokens(1);
  for (const bool warm : {false, true}) {
    FC_ASSIGN_OR_RETURN(
        const Answer answer,
        client_->Generate(request, [&](const v1::GenerateEvent& event) {
          if (event.has_prefill() && !warm) ShowPrefill(event.prefill());
        }));
    findings->wrong_blocks += double(answer.summary.wrong_blocks());
    const double seconds = answer.summary.first_token_seconds();
    if (!warm) {
      findings->cold_seconds = seconds;
      std::printf("%s  first token, cold: %.2f s\n", IsTerminal() ? "\n" : "",
                  seconds);
    } else {
      findings->warm_seconds = seconds;
      findings->warm_cached_tokens = answer.summary.cached_tokens();
      std::printf(
          "  first token, same prompt again: %.2f s (%u of %u tokens came "
          "from the store)\n",
          seconds, answer.summary.cached_tokens(),
          answer.summary.prompt_tokens());
    }
  }
  return absl::OkStatus();
}

absl::Status Acts::AskAll(Findings* findings) {
  std::printf("\n2. Eight facts were planted in the text: ask for them\n");
  for (const Fact& fact : story_.facts) {
    std::printf("\n  %s ...\n", OneLine(fact.question).c_str());
    bool recalled[2] = {false, false};
    for (const v1::Mode mode : {v1::EXACT, v1::SPARSE}) {
      std::printf("    %-6s |", mode == v1::EXACT ? "exact" : "sparse");
      FC_ASSIGN_OR_RETURN(const Answer answer,
                          Ask(Question(fact, mode), true, findings));
      const bool right = Recalls(fact, answer.text);
      recalled[mode == v1::EXACT ? 0 : 1] = right;
      (mode == v1::EXACT ? findings->exact : findings->sparse).facts += right;
      std::printf("|  %s\n",
                  right ? "right" : ("wrong, not " + fact.answer).c_str());
    }
    findings->facts_both += recalled[0] && recalled[1];
  }
  return absl::OkStatus();
}

absl::Status Acts::Continue(Findings* findings) {
  std::printf("\n3. The text goes on\n");
  for (const v1::Mode mode : {v1::EXACT, v1::SPARSE}) {
    v1::GenerateRequest request = options_.Request(mode);
    request.set_prompt(story_.text);
    request.set_request_id("continue");
    request.set_max_tokens(kContinuationTokens);
    std::printf("    %-6s |", mode == v1::EXACT ? "exact" : "sparse");
    FC_RETURN_IF_ERROR(Ask(request, true, findings).status());
    std::printf("|\n");
    // The same, but told what really follows: how surprised is it?
    request.set_forced_text(story_.continuation);
    FC_ASSIGN_OR_RETURN(Answer forced, Ask(request, false, findings));
    std::printf("           perplexity of the true continuation %.3f over %u "
                "tokens, %.1f tokens/s\n",
                forced.Perplexity(), forced.summary.nll_tokens(),
                forced.TokensPerSecond());
    (mode == v1::EXACT ? findings->exact : findings->sparse).continuation =
        std::move(forced);
  }
  return absl::OkStatus();
}

absl::Status Acts::Prove(Findings* findings) {
  std::printf("\n4. It is not a trick\n");
  v1::GenerateRequest cut = Question(story_.facts[0], v1::SPARSE);
  cut.set_no_prefetch(true);
  FC_ASSIGN_OR_RETURN(const Answer without, Ask(cut, false, findings));
  findings->no_prefetch = without.summary;
  std::printf("  push cut off (--no-prefetch): %llu of %llu blocks late\n",
              static_cast<unsigned long long>(without.summary.late()),
              static_cast<unsigned long long>(without.summary.predicted()));
  std::printf("  predictor stream (sinks and recent window only):\n");
  for (const Fact& fact : story_.facts) {
    v1::GenerateRequest request = Question(fact, v1::SPARSE);
    request.set_predictor(kNoBlocks);
    std::printf("    %s ...|", OneLine(fact.question).c_str());
    FC_ASSIGN_OR_RETURN(const Answer answer, Ask(request, true, findings));
    const bool right = Recalls(fact, answer.text);
    findings->stream_facts += right;
    std::printf("|  %s\n", right ? "right" : "lost");
  }
  return absl::OkStatus();
}

}  // namespace forecache::demo
