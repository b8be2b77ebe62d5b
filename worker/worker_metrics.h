// The worker's metrics, by meaning.  Names and units are in docs/METRICS.md.
#ifndef FORECACHE_WORKER_WORKER_METRICS_H_
#define FORECACHE_WORKER_WORKER_METRICS_H_

#include "absl/status/status.h"
#include "common/metrics.h"
#include "kvstore/client/group_control.h"
#include "kvstore/client/store_group.h"
#include "proto/worker.pb.h"

namespace forecache {

// Threads: safe to call from any thread.
class WorkerMetrics {
 public:
  explicit WorkerMetrics(Metrics* metrics);

  void Count(const v1::Summary& summary);  // an answer that ended well
  void CountEnd(const absl::Status& status, v1::Mode mode);
  void SetArena(size_t bytes_in_use, size_t bytes);
  void SetWaiting(int requests);
  // What became of the stores since the start of the worker.
  void SetStores(const StoreGroupCounters& data,
                 const GroupControlCounters& control);
  void SetAnswers(const DataClientCounters& data);

 private:
  Metrics* const metrics_;
  Counter* const prompt_tokens_;
  Counter* const cached_tokens_;
  Counter* const decoded_tokens_;
  Counter* const predicted_;
  Counter* const in_time_;
  Counter* const late_;
  Counter* const missed_;
  Counter* const refused_;
  Counter* const wrong_;
  Counter* const bytes_received_;
  Counter* const exact_layers_;
  Counter* const exact_tokens_;
  Counter* const unavailable_;
  Counter* const probes_partial_;
  Counter* const puts_moved_;
  Counter* const stores_lost_;
  Counter* const reconnects_;
  Counter* const sessions_resumed_;
  Counter* const sessions_reopened_;
  Counter* const seals_skipped_;
  Counter* const answers_late_;
  Counter* const answers_refused_;
  Gauge* const arena_used_;
  Gauge* const arena_bytes_;
  Gauge* const waiting_;
  Histogram* const first_token_;
  Histogram* const token_;
  Histogram* const missed_mass_;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_WORKER_METRICS_H_
