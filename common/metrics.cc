#include "common/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <exception>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"

namespace forecache {
namespace {

class PrometheusCounter : public Counter {
 public:
  explicit PrometheusCounter(prometheus::Counter* counter)
      : counter_(counter) {}
  void Add(double amount) override { counter_->Increment(amount); }
  double Value() const override { return counter_->Value(); }

 private:
  prometheus::Counter* counter_;
};

class PrometheusGauge : public Gauge {
 public:
  explicit PrometheusGauge(prometheus::Gauge* gauge) : gauge_(gauge) {}
  void Set(double value) override { gauge_->Set(value); }
  double Value() const override { return gauge_->Value(); }

 private:
  prometheus::Gauge* gauge_;
};

class PrometheusHistogram : public Histogram {
 public:
  explicit PrometheusHistogram(prometheus::Histogram* histogram)
      : histogram_(histogram) {}
  void Observe(double value) override { histogram_->Observe(value); }

 private:
  prometheus::Histogram* histogram_;
};

}  // namespace

struct Metrics::Impl {
  using Key = std::pair<std::string, MetricLabels>;
  std::shared_ptr<prometheus::Registry> registry =
      std::make_shared<prometheus::Registry>();
  std::unique_ptr<prometheus::Exposer> exposer;
  absl::Mutex mutex;
  std::map<Key, std::unique_ptr<Counter>> counters ABSL_GUARDED_BY(mutex);
  std::map<Key, std::unique_ptr<Gauge>> gauges ABSL_GUARDED_BY(mutex);
  std::map<Key, std::unique_ptr<Histogram>> histograms ABSL_GUARDED_BY(mutex);
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

Counter* Metrics::AddCounter(const std::string& name, const std::string& help,
                             const MetricLabels& labels) {
  absl::MutexLock lock(&impl_->mutex);
  auto& slot = impl_->counters[{name, labels}];
  if (slot == nullptr) {
    slot = std::make_unique<PrometheusCounter>(&prometheus::BuildCounter()
                                                    .Name(name)
                                                    .Help(help)
                                                    .Register(*impl_->registry)
                                                    .Add(labels));
  }
  return slot.get();
}

Gauge* Metrics::AddGauge(const std::string& name, const std::string& help,
                         const MetricLabels& labels) {
  absl::MutexLock lock(&impl_->mutex);
  auto& slot = impl_->gauges[{name, labels}];
  if (slot == nullptr) {
    slot = std::make_unique<PrometheusGauge>(&prometheus::BuildGauge()
                                                  .Name(name)
                                                  .Help(help)
                                                  .Register(*impl_->registry)
                                                  .Add(labels));
  }
  return slot.get();
}

Histogram* Metrics::AddHistogram(const std::string& name,
                                 const std::string& help,
                                 const std::vector<double>& bounds,
                                 const MetricLabels& labels) {
  absl::MutexLock lock(&impl_->mutex);
  auto& slot = impl_->histograms[{name, labels}];
  if (slot == nullptr) {
    slot = std::make_unique<PrometheusHistogram>(
        &prometheus::BuildHistogram()
             .Name(name)
             .Help(help)
             .Register(*impl_->registry)
             .Add(labels, bounds));
  }
  return slot.get();
}

absl::StatusOr<int> Metrics::Serve(const std::string& address) {
  try {
    impl_->exposer = std::make_unique<prometheus::Exposer>(address, 1);
    impl_->exposer->RegisterCollectable(impl_->registry);
  } catch (const std::exception& error) {  // civetweb throws on a taken port
    return absl::UnavailableError(absl::StrCat(
        "metrics: cannot listen on ", address, " (", error.what(),
        "): is the port in use? choose another with --metrics"));
  }
  return impl_->exposer->GetListeningPorts().front();
}

std::string Metrics::Text() const {
  return prometheus::TextSerializer().Serialize(impl_->registry->Collect());
}

}  // namespace forecache
