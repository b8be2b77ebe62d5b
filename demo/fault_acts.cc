#include "demo/fault_acts.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/status.h"

namespace forecache::demo {
namespace {

constexpr int kAnswerTokens = 40;
constexpr int kTokensBeforeDeath = 12;
constexpr int kQuestionTokens = 14;
// Which bit is flipped: of a key in the last tenth of the text, so that little
// has to be computed again.
constexpr double kFlippedDepth = 0.9;
constexpr int kFlippedLayer = 7;
constexpr int kFlippedKvHead = 1;
constexpr int kFlippedBit = 77;

double Milliseconds(Nanos time) { return double(time) / kMillisecond; }

}  // namespace

absl::Status FaultActs::Run(Findings* findings) {
  FC_RETURN_IF_ERROR(Kill(findings));
  return Flip(findings);
}

v1::GenerateRequest FaultActs::Continuation() const {
  v1::GenerateRequest request = options_.Request(v1::SPARSE);
  request.set_prompt(story_.text);
  request.set_request_id("kill");
  // What is not there is waited for: so both answers see the same blocks.
  request.set_late_policy(v1::STRICT);
  request.set_max_tokens(kAnswerTokens);
  return request;
}

absl::Status FaultActs::RestartStore() {
  processes_->Kill(store_->daemon);
  std::vector<std::string> flags = store_->flags;
  // Where the worker looks for it.
  flags.insert(flags.end(), {"--listen", store_->daemon.grpc, "--metrics",
                             store_->daemon.metrics, "--admin-listen",
                             store_->daemon.admin});
  FC_ASSIGN_OR_RETURN(store_->daemon,
                      processes_->Start(store_->daemon.name, store_->binary,
                                        std::move(flags)));
  return absl::OkStatus();
}

absl::Status FaultActs::Kill(Findings* findings) {
  std::printf("\n5. The store dies in the middle of an answer (kill -9)\n");
  Clock* const clock = Clock::Real();
  FC_ASSIGN_OR_RETURN(
      const Answer undisturbed,
      client_->Generate(Continuation(), [](const v1::GenerateEvent&) {}));
  int tokens = 0;
  Nanos last = 0, died = 0;
  absl::Status restarted;
  std::printf("    ");
  FC_ASSIGN_OR_RETURN(
      const Answer answer,
      client_->Generate(
          Continuation(), [&](const v1::GenerateEvent& event) {
            if (!event.has_token()) return;
            const Nanos now = clock->Now();
            if (died != 0) {
              findings->kill.pause_ms = std::max(
                  findings->kill.pause_ms, Milliseconds(now - last));
            }
            last = now;
            std::printf("%s", OneLine(event.token().text()).c_str());
            std::fflush(stdout);
            if (++tokens != kTokensBeforeDeath) return;
            died = now;
            std::printf(" [dies]");
            std::fflush(stdout);
            restarted = RestartStore();
            std::printf(" [back after %.0f ms] ",
                        Milliseconds(clock->Now() - died));
            std::fflush(stdout);
          }));
  std::printf("\n");
  FC_RETURN_IF_ERROR(restarted);
  findings->kill.same_answer =
      died != 0 && answer.text == undisturbed.text;
  findings->wrong_blocks += double(answer.summary.wrong_blocks() +
                                   undisturbed.summary.wrong_blocks());
  std::printf("  the answer went on after %.0f ms; it is %s\n",
              findings->kill.pause_ms,
              findings->kill.same_answer ? "the undisturbed one"
                                         : "NOT the undisturbed one");
  return absl::OkStatus();
}

v1::GenerateRequest FaultActs::Question(const std::string& request_id) const {
  v1::GenerateRequest request = options_.Request(v1::SPARSE);
  request.set_prompt(story_.text);
  request.set_question(story_.facts[0].question);
  request.set_request_id(request_id);
  request.set_max_tokens(kQuestionTokens);
  request.add_stop("\n");
  return request;
}

absl::Status FaultActs::Flip(Findings* findings) {
  std::printf("\n6. One bit of one stored block is flipped\n");
  // While a session holds the block, it can be named; this one has its answer.
  absl::Status flipped = absl::NotFoundError("no token came");
  FC_ASSIGN_OR_RETURN(
      const Answer undisturbed,
      client_->Generate(
          Question("flip"), [&](const v1::GenerateEvent& event) {
            if (!event.has_token() || flipped.ok()) return;
            flipped = client_->CorruptBlock(
                "flip", kFlippedLayer, kFlippedKvHead,
                static_cast<int>(findings->sparse.continuation.summary
                                     .context_blocks() *
                                 kFlippedDepth),
                kFlippedBit);
          }));
  FC_RETURN_IF_ERROR(Annotate(flipped, "flipping a bit"));
  FC_ASSIGN_OR_RETURN(const Answer answer,
                      client_->Generate(Question("after the flip"),
                                        [](const v1::GenerateEvent&) {}));
  FC_ASSIGN_OR_RETURN(const v1::StatsReply after, client_->StoreStats());
  FlipFinding& flip = findings->flip;
  flip.refused = double(after.blocks_refused());
  flip.same_answer = answer.text == undisturbed.text;
  flip.recomputed_tokens = int(answer.summary.prompt_tokens()) -
                           int(answer.summary.cached_tokens());
  findings->wrong_blocks += double(answer.summary.wrong_blocks() +
                                   undisturbed.summary.wrong_blocks());
  std::printf("    before |%s|\n    after  |%s|\n",
              OneLine(undisturbed.text).c_str(), OneLine(answer.text).c_str());
  std::printf("  %.0f blocks were refused for their checksum, %d of %u tokens "
              "computed again\n",
              flip.refused, flip.recomputed_tokens,
              answer.summary.prompt_tokens());
  return absl::OkStatus();
}

}  // namespace forecache::demo
