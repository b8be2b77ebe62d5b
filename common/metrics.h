// Counters, gauges and histograms, and the port Prometheus reads them from.
//
// Names are in docs/METRICS.md (a test holds the two together): base units,
// counters end in _total, and every label has a bounded set of values.
#ifndef FORECACHE_COMMON_METRICS_H_
#define FORECACHE_COMMON_METRICS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace forecache {

using MetricLabels = std::map<std::string, std::string>;

// Threads: safe to call from any thread, and cheap (one atomic add).
class Counter {
 public:
  virtual ~Counter() = default;
  virtual void Add(double amount = 1) = 0;
  virtual double Value() const = 0;
};

// Threads: safe to call from any thread, and cheap.
class Gauge {
 public:
  virtual ~Gauge() = default;
  virtual void Set(double value) = 0;
  virtual double Value() const = 0;
};

// Threads: safe to call from any thread; takes a short lock.
class Histogram {
 public:
  virtual ~Histogram() = default;
  virtual void Observe(double value) = 0;
};

// All metrics of one daemon.
//
// Threads: safe to call from any thread.
// Lifetime: must outlive every metric it gave out, which it owns.
class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The same name and labels give the same metric.
  Counter* AddCounter(const std::string& name, const std::string& help,
                      const MetricLabels& labels = {});
  Gauge* AddGauge(const std::string& name, const std::string& help,
                  const MetricLabels& labels = {});
  // `bounds` are the upper bounds of the buckets, ascending.
  Histogram* AddHistogram(const std::string& name, const std::string& help,
                          const std::vector<double>& bounds,
                          const MetricLabels& labels = {});

  // Serves /metrics on `address` ("127.0.0.1:9464"; port 0 picks a free one).
  // Returns the port.  kUnavailable names the address when it is taken.
  absl::StatusOr<int> Serve(const std::string& address);

  // The text that /metrics serves.
  std::string Text() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace forecache

#endif  // FORECACHE_COMMON_METRICS_H_
