// Answers one request: prefill, then token by token, with an account of it.
#ifndef FORECACHE_WORKER_GENERATOR_H_
#define FORECACHE_WORKER_GENERATOR_H_

#include <functional>

#include "absl/status/status.h"
#include "common/clock.h"
#include "proto/worker.pb.h"
#include "worker/model/tokenizer.h"
#include "worker/session.h"
#include "worker/worker_metrics.h"

namespace forecache {

// Threads: one thread at a time, the decode thread.
// Lifetime: what it is given must outlive it.
class Generator {
 public:
  // Gets each event as it happens; false means that nobody listens any more,
  // and ends the answer with kCancelled.
  using Sink = std::function<bool(const v1::GenerateEvent& event)>;

  Generator(const WorkerParts& parts, const Tokenizer* tokenizer,
            WorkerMetrics* metrics, Clock* clock);

  // See Worker.Generate in proto/worker.proto.
  absl::Status Run(const v1::GenerateRequest& request, const Sink& sink);

 private:
  struct Answer;

  absl::Status Prepare(const v1::GenerateRequest& request, Answer* answer);
  absl::Status Prefill(const Sink& sink, Answer* answer);
  absl::Status DecodeAll(const Sink& sink, Answer* answer);
  absl::Status EmitToken(const Sink& sink, Answer* answer);
  void Summarise(Answer* answer, v1::Summary* summary);

  const WorkerParts parts_;
  const Tokenizer* const tokenizer_;
  WorkerMetrics* const metrics_;
  Clock* const clock_;
};

// The session options of a request over `prompt_tokens` tokens, with defaults
// filled in.  kInvalidArgument names the field and its limit.
absl::StatusOr<SessionOptions> ReadSessionOptions(
    const v1::GenerateRequest& request, int prompt_tokens);

}  // namespace forecache

#endif  // FORECACHE_WORKER_GENERATOR_H_
