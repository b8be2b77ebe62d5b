#include "kvstore/store_metrics.h"

#include <string>
#include <vector>

namespace forecache {
namespace {

// 10 us to 10 s, two steps a decade.
const std::vector<double>& LatencyBounds() {
  static const auto* bounds = new std::vector<double>{
      1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 10};
  return *bounds;
}

Counter* BlocksRefused(Metrics* metrics, const std::string& where) {
  return metrics->AddCounter("forecache_store_blocks_refused_total",
                             "Blocks whose bytes did not match their checksum.",
                             {{"where", where}});
}

Counter* TenantLoads(Metrics* metrics, const std::string& outcome) {
  return metrics->AddCounter("forecache_store_tenant_loads_total",
                             "Times that the file of tenants was read.",
                             {{"outcome", outcome}});
}

Counter* TokensHit(Metrics* metrics, const std::string& tier) {
  return metrics->AddCounter("forecache_store_prefix_tokens_hit_total",
                             "Tokens of those prompts that were held.",
                             {{"tier", tier}});
}

Counter* Demotions(Metrics* metrics, const std::string& outcome) {
  return metrics->AddCounter("forecache_store_demotions_total",
                             "Sealed segments that were to be written to SSD.",
                             {{"outcome", outcome}});
}

Counter* Revivals(Metrics* metrics, const std::string& outcome) {
  return metrics->AddCounter("forecache_store_ssd_revivals_total",
                             "Tries to write to SSD again after it failed.",
                             {{"outcome", outcome}});
}

Counter* MessagesRefused(Metrics* metrics, const std::string& why) {
  return metrics->AddCounter(
      "forecache_store_messages_refused_total",
      "Data-plane messages that were answered by an error or dropped.",
      {{"why", why}});
}

}  // namespace

StoreMetrics::StoreMetrics(Metrics* metrics) {
  blocks_put = metrics->AddCounter(
      "forecache_store_blocks_put_total",
      "Blocks (K and V) that workers put.");
  puts_waited = metrics->AddCounter(
      "forecache_store_puts_waited_total",
      "Puts that waited for room which others left for SSD.");
  blocks_pushed = metrics->AddCounter(
      "forecache_store_blocks_pushed_total",
      "Blocks sent to workers.");
  bytes_pushed = metrics->AddCounter(
      "forecache_store_pushed_bytes_total",
      "K and V bytes sent to workers.");
  probes = metrics->AddCounter(
      "forecache_store_probes_total",
      "Probes answered.");
  probe_key_bytes = metrics->AddCounter(
      "forecache_store_probe_key_bytes_total",
      "Bytes of 16-bit keys that probes covered.");
  probe_seconds = metrics->AddHistogram(
      "forecache_store_probe_seconds",
      "Time to score one probe.", LatencyBounds());
  corrections = metrics->AddCounter(
      "forecache_store_corrections_total",
      "Corrections worked off.");
  correct_seconds = metrics->AddHistogram(
      "forecache_store_correct_seconds",
      "Time from a correction's arrival to its reply.", LatencyBounds());
  fetch_seconds = metrics->AddHistogram(
      "forecache_store_fetch_seconds",
      "Time from a fetch's arrival to its last push.", LatencyBounds());
  dram_bytes = metrics->AddGauge(
      "forecache_store_dram_used_bytes",
      "Arena bytes in use.");
  dram_capacity_bytes = metrics->AddGauge(
      "forecache_store_dram_capacity_bytes",
      "The arena's size.");
  AddState(metrics);
  AddTiers(metrics);
  AddRefusals(metrics);
}

void StoreMetrics::AddState(Metrics* metrics) {
  sessions = metrics->AddGauge(
      "forecache_store_sessions",
      "Sessions that are open.");
  segments = metrics->AddGauge(
      "forecache_store_segments",
      "Sealed segments in the index.");
  open_segments = metrics->AddGauge(
      "forecache_store_open_segments",
      "Segments that are not sealed yet.");
  sessions_opened = metrics->AddCounter(
      "forecache_store_sessions_opened_total",
      "Sessions opened.");
  sessions_expired = metrics->AddCounter(
      "forecache_store_sessions_expired_total",
      "Sessions that ended by being idle.");
  segments_sealed = metrics->AddCounter(
      "forecache_store_segments_sealed_total",
      "Segments sealed and kept.");
  segments_deduplicated = metrics->AddCounter(
      "forecache_store_segments_deduplicated_total",
      "Segments sealed that were held already.");
  segments_evicted = metrics->AddCounter(
      "forecache_store_segments_evicted_total",
      "Segments evicted to make room.");
  segments_dropped = metrics->AddCounter(
      "forecache_store_segments_dropped_total",
      "Segments dropped because of a damaged block.");
  prefix_lookups = metrics->AddCounter(
      "forecache_store_prefix_lookups_total",
      "Prompts whose cached prefix was looked up.");
  prefix_tokens_asked = metrics->AddCounter(
      "forecache_store_prefix_tokens_asked_total",
      "Tokens of those prompts.");
  prefix_tokens_hit_dram = TokensHit(metrics, "dram");
  prefix_tokens_hit_ssd = TokensHit(metrics, "ssd");
}

void StoreMetrics::AddTiers(Metrics* metrics) {
  ssd_segments = metrics->AddGauge(
      "forecache_store_ssd_segments",
      "Segments on SSD.");
  ssd_bytes = metrics->AddGauge(
      "forecache_store_ssd_used_bytes",
      "Extents in use, in bytes.");
  ssd_capacity_bytes = metrics->AddGauge(
      "forecache_store_ssd_capacity_bytes",
      "What the tier may take of the disk.");
  ssd_metadata_bytes = metrics->AddGauge(
      "forecache_store_ssd_metadata_bytes",
      "RocksDB's files.");
  ssd_queued = metrics->AddGauge(
      "forecache_store_ssd_queued_segments",
      "Segments that wait to be written to SSD.");
  ssd_writable = metrics->AddGauge(
      "forecache_store_ssd_writable",
      "1 while segments are written to SSD, 0 while the disk fails.");
  ssd_revivals = Revivals(metrics, "written_again");
  ssd_revivals_failed = Revivals(metrics, "failed");
  demotions_written = Demotions(metrics, "written");
  demotions_failed = Demotions(metrics, "failed");
  demotions_skipped = Demotions(metrics, "skipped");
  demotions_deferred = Demotions(metrics, "deferred");
  segments_demoted = metrics->AddCounter(
      "forecache_store_segments_demoted_total",
      "Segments whose copy in memory made room, the one on SSD stays.");
  segments_promoted = metrics->AddCounter(
      "forecache_store_segments_promoted_total",
      "Segments copied from SSD to memory.");
  ssd_segments_evicted = metrics->AddCounter(
      "forecache_store_ssd_segments_evicted_total",
      "Segments on SSD that made room.");
  scrubbed_bytes = metrics->AddCounter(
      "forecache_store_ssd_scrubbed_bytes_total",
      "Bytes on SSD that the scrubber read.");
  scrub_findings = metrics->AddCounter(
      "forecache_store_ssd_scrub_findings_total",
      "Segments on SSD that the scrubber found damaged, and dropped.");
}

void StoreMetrics::AddRefusals(Metrics* metrics) {
  tenant_loads = TenantLoads(metrics, "taken");
  tenant_loads_refused = TenantLoads(metrics, "refused");
  refused_calls = metrics->AddCounter(
      "forecache_store_calls_refused_total",
      "gRPC calls without a credential of a tenant, or of the admin.");
  blocks_refused_put = BlocksRefused(metrics, "arrival");
  blocks_refused_read = BlocksRefused(metrics, "read");
  refused_malformed = MessagesRefused(metrics, "malformed");
  refused_version = MessagesRefused(metrics, "version");
  refused_epoch = MessagesRefused(metrics, "epoch");
  refused_hello = MessagesRefused(metrics, "hello");
  refused_session = MessagesRefused(metrics, "session");
  refused_request = MessagesRefused(metrics, "request");
  refused_damaged = MessagesRefused(metrics, "damaged");
  refused_busy = MessagesRefused(metrics, "busy");
  push_credits_lapsed = metrics->AddCounter(
      "forecache_store_push_credits_lapsed_total",
      "Times that a peer said nothing of what it was pushed, for too long");
  peers_cut_off = metrics->AddCounter(
      "forecache_store_peers_cut_off_total",
      "Peers whose connection was closed for too many faulty messages.");
}

}  // namespace forecache
