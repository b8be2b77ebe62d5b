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

Counter* MessagesRefused(Metrics* metrics, const std::string& why) {
  return metrics->AddCounter(
      "forecache_store_messages_refused_total",
      "Data-plane messages that were answered by an error or dropped.",
      {{"why", why}});
}

}  // namespace

StoreMetrics::StoreMetrics(Metrics* metrics) {
  auto counter = [&](const std::string& name, const std::string& help) {
    return metrics->AddCounter("forecache_store_" + name + "_total", help);
  };
  auto gauge = [&](const std::string& name, const std::string& help) {
    return metrics->AddGauge("forecache_store_" + name, help);
  };
  auto seconds = [&](const std::string& name, const std::string& help) {
    return metrics->AddHistogram("forecache_store_" + name + "_seconds", help,
                                 LatencyBounds());
  };
  blocks_put = counter("blocks_put", "Blocks (K and V) that workers put.");
  blocks_pushed = counter("blocks_pushed", "Blocks sent to workers.");
  bytes_pushed = counter("pushed_bytes", "K and V bytes sent to workers.");
  blocks_refused_put = BlocksRefused(metrics, "arrival");
  blocks_refused_read = BlocksRefused(metrics, "read");
  probes = counter("probes", "Probes answered.");
  probe_key_bytes =
      counter("probe_key_bytes", "Bytes of 16-bit keys that probes covered.");
  probe_seconds = seconds("probe", "Time to score one probe.");
  fetch_seconds =
      seconds("fetch", "Time from a fetch's arrival to its last push's start.");
  dram_bytes = gauge("dram_used_bytes", "Arena bytes in use.");
  dram_capacity_bytes = gauge("dram_capacity_bytes", "The arena's size.");
  sessions = gauge("sessions", "Sessions that are open.");
  segments = gauge("segments", "Sealed segments in the index.");
  open_segments = gauge("open_segments", "Segments that are not sealed yet.");
  sessions_opened = counter("sessions_opened", "Sessions opened.");
  sessions_expired =
      counter("sessions_expired", "Sessions that ended by being idle.");
  segments_sealed = counter("segments_sealed", "Segments sealed and kept.");
  segments_deduplicated =
      counter("segments_deduplicated", "Segments sealed that were held.");
  segments_evicted =
      counter("segments_evicted", "Segments evicted to make room.");
  segments_dropped = counter(
      "segments_dropped", "Segments dropped because of a damaged block.");
  prefix_lookups =
      counter("prefix_lookups", "Prompts whose cached prefix was looked up.");
  prefix_tokens_asked =
      counter("prefix_tokens_asked", "Tokens of those prompts.");
  prefix_tokens_hit =
      counter("prefix_tokens_hit", "Tokens of those prompts that were held.");
  refused_malformed = MessagesRefused(metrics, "malformed");
  refused_version = MessagesRefused(metrics, "version");
  refused_epoch = MessagesRefused(metrics, "epoch");
  refused_session = MessagesRefused(metrics, "session");
  refused_request = MessagesRefused(metrics, "request");
  refused_damaged = MessagesRefused(metrics, "damaged");
  refused_busy = MessagesRefused(metrics, "busy");
}

}  // namespace forecache
