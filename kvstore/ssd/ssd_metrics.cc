#include "kvstore/ssd/ssd_metrics.h"

#include <string>

namespace forecache {
namespace {

Counter* Errors(Metrics* metrics, const std::string& op) {
  return metrics->AddCounter("forecache_store_ssd_errors_total",
                             "Operations that the disk failed.", {{"op", op}});
}

Counter* Recovered(Metrics* metrics, const std::string& outcome) {
  return metrics->AddCounter("forecache_store_ssd_recovered_segments_total",
                             "Segments on SSD that a start found.",
                             {{"outcome", outcome}});
}

}  // namespace

SsdMetrics::SsdMetrics(Metrics* metrics) {
  read_bytes = metrics->AddCounter("forecache_store_ssd_read_bytes_total",
                                   "Bytes read from SSD.");
  written_bytes = metrics->AddCounter("forecache_store_ssd_written_bytes_total",
                                      "Bytes of segments written to SSD.");
  read_errors = Errors(metrics, "read");
  write_errors = Errors(metrics, "write");
  metadata_errors = Errors(metrics, "metadata");
  recovered = Recovered(metrics, "served");
  torn = Recovered(metrics, "torn");
  beyond_bound = Recovered(metrics, "beyond_bound");
}

}  // namespace forecache
