#include "worker/generator.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/limits.h"
#include "common/log.h"
#include "common/status.h"

namespace forecache {

// What is known of one answer so far.
struct Generator::Answer {
  Nanos started = 0;
  Nanos first_token = 0;
  std::unique_ptr<Session> session;
  std::span<const float> logits;  // of what comes next
  std::vector<int32_t> question;  // decoded before the answer
  std::vector<int32_t> forced;    // teacher forcing
  std::vector<std::string> stops;
  int max_tokens = 0;
  int budget_blocks = 0;
  int prompt_tokens = 0;
  std::string predictor;
  std::string text;
  int decoded = 0;
  double nll_sum = 0;
  const char* finish_reason = nullptr;
  DataClientCounters wire_before;  // at the prefill's end
};

namespace {

absl::Status Cancelled() {
  return absl::CancelledError("the client went away");
}

int32_t Greedy(std::span<const float> logits) {
  return static_cast<int32_t>(
      std::max_element(logits.begin(), logits.end()) - logits.begin());
}

double NegativeLogLikelihood(std::span<const float> logits, int32_t token) {
  const double high = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (float logit : logits) sum += std::exp(logit - high);
  return high + std::log(sum) - logits[token];
}

}  // namespace

Generator::Generator(const WorkerParts& parts, const Tokenizer* tokenizer,
                     WorkerMetrics* metrics, Clock* clock)
    : parts_(parts), tokenizer_(tokenizer), metrics_(metrics), clock_(clock) {}

absl::Status Generator::Run(const v1::GenerateRequest& request,
                            const Sink& sink) {
  const Nanos started = clock_->Now();
  Answer answer;
  for (int tries = 1;; ++tries) {
    answer = Answer{.started = started};
    absl::Status ready = Prepare(request, &answer);
    if (ready.ok()) ready = Prefill(sink, &answer);
    if (ready.ok()) break;
    // A damaged segment has left the store: it is computed again.
    if (!absl::IsDataLoss(ready) || tries == kPrefillTries) return ready;
    LogWarning("prefill starts again", {{"request", request.request_id()},
                                        {"why", ready.ToString()}});
    answer.session.reset();  // before the next one opens
  }
  FC_RETURN_IF_ERROR(DecodeAll(sink, &answer));
  v1::GenerateEvent event;
  Summarise(&answer, event.mutable_summary());
  metrics_->Count(event.summary());
  return sink(event) ? absl::OkStatus() : Cancelled();
}

absl::Status Generator::Prepare(const v1::GenerateRequest& request,
                                Answer* answer) {
  std::vector<int32_t> prompt = tokenizer_->Encode(request.prompt(), true);
  answer->prompt_tokens = static_cast<int>(prompt.size());
  if (!request.forced_text().empty()) {
    answer->forced = tokenizer_->Encode(request.forced_text(), false);
    answer->max_tokens = static_cast<int>(answer->forced.size());
  } else if (request.max_tokens() == 0 ||
             request.max_tokens() > uint32_t{kContextTokensMax}) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_tokens: ", request.max_tokens(), " is not in 1..",
                     kContextTokensMax));
  } else {
    answer->max_tokens = static_cast<int>(request.max_tokens());
  }
  answer->question = tokenizer_->Encode(request.question(), true);
  answer->stops.assign(request.stop().begin(), request.stop().end());
  std::erase(answer->stops, "");
  FC_ASSIGN_OR_RETURN(const SessionOptions options,
                      ReadSessionOptions(request, answer->prompt_tokens));
  answer->budget_blocks = options.prefetch.budget.blocks;
  answer->predictor = options.predictor;
  FC_ASSIGN_OR_RETURN(answer->session,
                      Session::Open(parts_, options, std::move(prompt),
                                    answer->max_tokens +
                                        int(answer->question.size())));
  return absl::OkStatus();
}

absl::Status Generator::Prefill(const Sink& sink, Answer* answer) {
  bool listening = true;
  FC_ASSIGN_OR_RETURN(
      answer->logits,
      answer->session->Prefill([&](int done, int total, int cached) {
        v1::GenerateEvent event;
        event.mutable_prefill()->set_done_tokens(done);
        event.mutable_prefill()->set_total_tokens(total);
        event.mutable_prefill()->set_cached_tokens(cached);
        listening = listening && sink(event);
      }));
  answer->wire_before = parts_.data_plane->Counters();
  return listening ? absl::OkStatus() : Cancelled();
}

absl::Status Generator::EmitToken(const Sink& sink, Answer* answer) {
  const bool is_forced = !answer->forced.empty();
  const int32_t token = is_forced ? answer->forced[answer->decoded]
                                  : Greedy(answer->logits);
  if (!is_forced && tokenizer_->IsEndOfText(token)) {
    answer->finish_reason = "stop";
    return absl::OkStatus();
  }
  const double nll = NegativeLogLikelihood(answer->logits, token);
  answer->nll_sum += nll;
  ++answer->decoded;
  const std::string piece = tokenizer_->Decode({&token, 1});
  answer->text += piece;
  v1::GenerateEvent event;
  event.mutable_token()->set_token(token);
  event.mutable_token()->set_text(piece);
  event.mutable_token()->set_nll(nll);
  if (!sink(event)) return Cancelled();
  if (answer->decoded == 1) answer->first_token = clock_->Now();
  if (answer->decoded == answer->max_tokens) {
    answer->finish_reason = is_forced ? "forced" : "length";
    return absl::OkStatus();
  }
  for (const std::string& stop : answer->stops) {
    if (answer->text.find(stop) != std::string::npos) {
      answer->finish_reason = "stop";
      return absl::OkStatus();
    }
  }
  FC_ASSIGN_OR_RETURN(answer->logits, answer->session->Decode(token));
  return absl::OkStatus();
}

absl::Status Generator::DecodeAll(const Sink& sink, Answer* answer) {
  for (const int32_t token : answer->question) {
    FC_ASSIGN_OR_RETURN(answer->logits, answer->session->Decode(token));
  }
  while (answer->finish_reason == nullptr) {
    FC_RETURN_IF_ERROR(EmitToken(sink, answer));
  }
  return absl::OkStatus();
}

void Generator::Summarise(Answer* answer, v1::Summary* summary) {
  const Nanos end = clock_->Now();
  Session& session = *answer->session;
  const SessionMemory memory = session.memory();
  const PrefetchCounters blocks = session.counters();
  const DataClientCounters wire = parts_.data_plane->Counters();
  const DataClientCounters& before = answer->wire_before;
  const int context_blocks =
      (answer->prompt_tokens + kBlockTokens - 1) / kBlockTokens;
  summary->set_prompt_tokens(answer->prompt_tokens);
  summary->set_question_tokens(static_cast<uint32_t>(answer->question.size()));
  summary->set_cached_tokens(session.cached_tokens());
  summary->set_decoded_tokens(answer->decoded);
  summary->set_context_blocks(context_blocks);
  summary->set_budget_blocks(std::min(answer->budget_blocks, context_blocks));
  const Nanos first = answer->first_token > 0 ? answer->first_token : end;
  summary->set_first_token_seconds(double(first - answer->started) / kSecond);
  summary->set_decode_seconds(double(end - first) / kSecond);
  summary->set_context_bytes(answer->prompt_tokens *
                             parts_.geometry().TokenBytes());
  summary->set_resident_bytes(memory.resident);
  summary->set_history_bytes(memory.history);
  summary->set_tail_bytes(memory.tail);
  summary->set_table_bytes(memory.tables);
  summary->set_staging_bytes(size_t(parts_.staging->slots()) *
                             parts_.staging->slot_bytes());
  summary->set_predicted(blocks.predicted);
  summary->set_in_time(blocks.in_time);
  summary->set_late(blocks.late);
  summary->set_missed(blocks.missed);
  summary->set_refused(blocks.refused);
  summary->set_corrected(blocks.corrected);
  summary->set_corrections_late(blocks.corrections_late);
  summary->set_wrong_blocks(session.Audit());
  summary->set_blocks_received(wire.blocks_received - before.blocks_received);
  summary->set_bytes_received(wire.bytes_received - before.bytes_received);
  summary->set_wire_bytes(wire.wire_bytes_received + wire.wire_bytes_sent -
                          before.wire_bytes_received -
                          before.wire_bytes_sent);
  summary->set_blocks_put(wire.blocks_put - before.blocks_put);
  summary->set_probe_key_bytes(blocks.probe_key_bytes);
  summary->set_predict_seconds(double(blocks.predict_time) / kSecond);
  if (blocks.mass_known > 0) {
    summary->set_missed_mass(blocks.mass_missed / double(blocks.mass_known));
    summary->set_missed_mass_worst(blocks.mass_missed_worst);
  }
  summary->set_exact_layers(session.exact_layers());
  summary->set_exact_tokens(session.exact_tokens());
  summary->set_nll_sum(answer->nll_sum);
  summary->set_nll_tokens(answer->decoded);
  summary->set_transport(parts_.data_plane->transport_name());
  summary->set_isa(KernelIsa());
  summary->set_predictor(answer->predictor);
  summary->set_finish_reason(answer->finish_reason);
}

}  // namespace forecache
