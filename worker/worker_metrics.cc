#include "worker/worker_metrics.h"

namespace forecache {
namespace {

constexpr char kBlocksHelp[] =
    "KV blocks of decoded tokens, by what became of them";
constexpr char kBlocks[] = "forecache_worker_blocks_total";
constexpr char kEventsHelp[] = "What happened to the worker's stores";
constexpr char kDroppedHelp[] = "Answers of stores that nobody took";
constexpr char kDropped[] = "forecache_worker_answers_dropped_total";
constexpr char kEvents[] = "forecache_worker_store_events_total";

// A counter that is kept elsewhere.
void Raise(Counter* counter, uint64_t value) {
  const double more = static_cast<double>(value) - counter->Value();
  if (more > 0) counter->Add(more);
}

}  // namespace

WorkerMetrics::WorkerMetrics(Metrics* m)
    : metrics_(m),
      prompt_tokens_(m->AddCounter("forecache_worker_prompt_tokens_total",
                                   "Tokens of prompts")),
      cached_tokens_(m->AddCounter("forecache_worker_cached_tokens_total",
                                   "Prompt tokens whose KV the store had")),
      decoded_tokens_(m->AddCounter("forecache_worker_decoded_tokens_total",
                                    "Tokens decoded")),
      predicted_(m->AddCounter(kBlocks, kBlocksHelp, {{"fate", "predicted"}})),
      in_time_(m->AddCounter(kBlocks, kBlocksHelp, {{"fate", "in_time"}})),
      late_(m->AddCounter(kBlocks, kBlocksHelp, {{"fate", "late"}})),
      missed_(m->AddCounter(kBlocks, kBlocksHelp, {{"fate", "missed"}})),
      refused_(m->AddCounter(kBlocks, kBlocksHelp, {{"fate", "refused"}})),
      wrong_(m->AddCounter(kBlocks, kBlocksHelp, {{"fate", "wrong"}})),
      bytes_received_(
          m->AddCounter("forecache_worker_received_bytes_total",
                        "Bytes of K and V received while decoding")),
      exact_layers_(m->AddCounter(
          "forecache_worker_exact_layers_total",
          "Layers of tokens that mode AUTO gave every block")),
      exact_tokens_(
          m->AddCounter("forecache_worker_exact_tokens_total",
                        "Tokens of mode AUTO that had such layers")),
      unavailable_(
          m->AddCounter("forecache_worker_blocks_unavailable_total",
                        "KV blocks asked for whose store was not there")),
      probes_partial_(
          m->AddCounter("forecache_worker_probes_partial_total",
                        "Probes and corrections that went on without one of "
                        "the stores")),
      puts_moved_(m->AddCounter("forecache_worker_puts_moved_total",
                                "Puts that another store took")),
      stores_lost_(m->AddCounter(kEvents, kEventsHelp, {{"event", "lost"}})),
      reconnects_(
          m->AddCounter(kEvents, kEventsHelp, {{"event", "reconnected"}})),
      sessions_resumed_(
          m->AddCounter(kEvents, kEventsHelp, {{"event", "session_resumed"}})),
      sessions_reopened_(
          m->AddCounter(kEvents, kEventsHelp, {{"event", "session_reopened"}})),
      seals_skipped_(
          m->AddCounter(kEvents, kEventsHelp, {{"event", "seal_skipped"}})),
      answers_late_(
          m->AddCounter(kDropped, kDroppedHelp, {{"why", "late"}})),
      answers_refused_(
          m->AddCounter(kDropped, kDroppedHelp, {{"why", "refused"}})),
      arena_used_(m->AddGauge("forecache_worker_arena_used_bytes",
                              "Bytes of the arena's slots in use")),
      arena_bytes_(m->AddGauge("forecache_worker_arena_bytes",
                               "Size of the arena")),
      waiting_(m->AddGauge("forecache_worker_waiting_requests",
                           "Requests that wait for the decode thread")),
      first_token_(m->AddHistogram(
          "forecache_worker_first_token_seconds",
          "Time from a request's start to its first token",
          {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120})),
      token_(m->AddHistogram(
          "forecache_worker_token_seconds",
          "Mean time of a decoded token after the first, by request",
          {0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1})),
      missed_mass_(m->AddHistogram(
          "forecache_worker_missed_mass",
          "Estimated share of attention that was not resident, by request",
          {0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5})) {}

void WorkerMetrics::Count(const v1::Summary& summary) {
  prompt_tokens_->Add(summary.prompt_tokens());
  cached_tokens_->Add(summary.cached_tokens());
  decoded_tokens_->Add(summary.decoded_tokens());
  predicted_->Add(double(summary.predicted()));
  in_time_->Add(double(summary.in_time()));
  late_->Add(double(summary.late()));
  missed_->Add(double(summary.missed()));
  refused_->Add(double(summary.refused()));
  wrong_->Add(double(summary.wrong_blocks()));
  bytes_received_->Add(double(summary.bytes_received()));
  exact_layers_->Add(double(summary.exact_layers()));
  exact_tokens_->Add(double(summary.exact_tokens()));
  missed_mass_->Observe(summary.missed_mass());
  first_token_->Observe(summary.first_token_seconds());
  if (summary.decoded_tokens() > 1) {
    token_->Observe(summary.decode_seconds() /
                    (summary.decoded_tokens() - 1));
  }
}

void WorkerMetrics::CountEnd(const absl::Status& status, v1::Mode mode) {
  metrics_
      ->AddCounter("forecache_worker_requests_total",
                   "Requests ended, by mode and status code",
                   {{"mode", mode == v1::SPARSE  ? "sparse"
                             : mode == v1::EXACT ? "exact"
                                                 : "auto"},
                    {"code", absl::StatusCodeToString(status.code())}})
      ->Add();
}

void WorkerMetrics::SetArena(size_t bytes_in_use, size_t bytes) {
  arena_used_->Set(double(bytes_in_use));
  arena_bytes_->Set(double(bytes));
}

void WorkerMetrics::SetStores(const StoreGroupCounters& data,
                              const GroupControlCounters& control) {
  Raise(unavailable_, data.blocks_unavailable);
  Raise(probes_partial_, data.probes_partial);
  Raise(puts_moved_, data.puts_moved);
  Raise(stores_lost_, data.stores_lost);
  Raise(reconnects_, control.reconnects);
  Raise(sessions_resumed_, control.sessions_resumed);
  Raise(sessions_reopened_, control.sessions_reopened);
  Raise(seals_skipped_, control.seals_skipped);
}

void WorkerMetrics::SetAnswers(const DataClientCounters& data) {
  Raise(answers_late_, data.answers_late);
  Raise(answers_refused_, data.messages_refused);
}

void WorkerMetrics::SetWaiting(int requests) { waiting_->Set(requests); }

}  // namespace forecache
