#include "worker/worker_metrics.h"

namespace forecache {
namespace {

constexpr char kBlocksHelp[] =
    "KV blocks of decoded tokens, by what became of them";
constexpr char kBlocks[] = "forecache_worker_blocks_total";

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
          {0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1})) {}

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
  first_token_->Observe(summary.first_token_seconds());
  if (summary.decoded_tokens() > 1) {
    token_->Observe(summary.decode_seconds() /
                    (summary.decoded_tokens() - 1));
  }
}

void WorkerMetrics::CountEnd(const absl::Status& status, bool sparse) {
  metrics_
      ->AddCounter("forecache_worker_requests_total",
                   "Requests ended, by mode and status code",
                   {{"mode", sparse ? "sparse" : "exact"},
                    {"code", absl::StatusCodeToString(status.code())}})
      ->Add();
}

void WorkerMetrics::SetArena(size_t bytes_in_use, size_t bytes) {
  arena_used_->Set(double(bytes_in_use));
  arena_bytes_->Set(double(bytes));
}

void WorkerMetrics::SetWaiting(int requests) { waiting_->Set(requests); }

}  // namespace forecache
