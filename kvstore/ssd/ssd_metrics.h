// What the SSD tier counts.  Rows in docs/METRICS.md.
#ifndef FORECACHE_KVSTORE_SSD_SSD_METRICS_H_
#define FORECACHE_KVSTORE_SSD_SSD_METRICS_H_

#include "common/metrics.h"

namespace forecache {

// Threads: safe to call from any thread.
// Lifetime: the Metrics outlives it.
struct SsdMetrics {
  explicit SsdMetrics(Metrics* metrics);

  Counter* read_bytes;
  Counter* written_bytes;
  Counter* read_errors;      // of the device, not of checksums
  Counter* write_errors;
  Counter* metadata_errors;
  // Segments found at the start.
  Counter* recovered;
  Counter* torn;
  Counter* beyond_bound;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SSD_SSD_METRICS_H_
