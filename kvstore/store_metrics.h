// What a store counts.  Rows in docs/METRICS.md.
#ifndef FORECACHE_KVSTORE_STORE_METRICS_H_
#define FORECACHE_KVSTORE_STORE_METRICS_H_

#include "common/metrics.h"

namespace forecache {

// Threads: safe to call from any thread.
// Lifetime: the Metrics outlives it.
struct StoreMetrics {
  explicit StoreMetrics(Metrics* metrics);

  Counter* blocks_put;
  Counter* puts_waited;
  Counter* blocks_pushed;
  Counter* bytes_pushed;
  Counter* blocks_refused_put;   // damaged on arrival
  Counter* blocks_refused_read;  // damaged in the store
  Counter* probes;
  Counter* probe_key_bytes;
  Histogram* probe_seconds;
  Counter* corrections;
  Histogram* correct_seconds;
  Histogram* fetch_seconds;
  Gauge* dram_bytes;
  Gauge* dram_capacity_bytes;
  Gauge* sessions;
  Gauge* segments;
  Gauge* open_segments;
  Counter* sessions_opened;
  Counter* sessions_expired;
  Counter* segments_sealed;
  Counter* segments_deduplicated;
  Counter* segments_evicted;
  Counter* segments_dropped;
  // Between the tiers.
  Gauge* ssd_segments;
  Gauge* ssd_bytes;
  Gauge* ssd_capacity_bytes;
  Gauge* ssd_metadata_bytes;
  Gauge* ssd_queued;
  Gauge* ssd_writable;
  Counter* ssd_revivals;
  Counter* ssd_revivals_failed;
  Counter* demotions_written;
  Counter* demotions_failed;
  Counter* demotions_skipped;
  Counter* demotions_deferred;
  Counter* segments_demoted;
  Counter* segments_promoted;
  Counter* ssd_segments_evicted;
  Counter* scrubbed_bytes;
  Counter* scrub_findings;
  Counter* prefix_lookups;
  Counter* prefix_tokens_asked;
  Counter* prefix_tokens_hit_dram;
  Counter* prefix_tokens_hit_ssd;
  Counter* tenant_loads;
  Counter* tenant_loads_refused;
  Counter* refused_calls;  // of the control plane, for their credential
  // Messages of the data plane that got an error or no answer, by why.
  Counter* refused_malformed;
  Counter* refused_version;
  Counter* refused_epoch;
  Counter* refused_hello;     // not proven, or none before
  Counter* refused_session;
  Counter* refused_request;   // a field outside its limit
  Counter* refused_damaged;   // the payload's checksum does not match
  Counter* refused_busy;      // a queue or a pool was full
  Counter* push_credits_lapsed;
  Counter* peers_cut_off;     // for too many such messages

 private:
  void AddState(Metrics* metrics);
  void AddTiers(Metrics* metrics);
  void AddRefusals(Metrics* metrics);
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_STORE_METRICS_H_
