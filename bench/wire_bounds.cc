#include "bench/wire_bounds.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/scan_cases.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr double kBoundSeconds = 0.15;

struct Size {
  const char* name;
  size_t bytes;
};
constexpr Size kBoundSizes[] = {{"64k", size_t{64} << 10},
                                {"packed", kPushBytesMax},
                                {"1m", size_t{1} << 20}};

// What each fetch is compared with: small blocks travel packed.
constexpr struct {
  const char* fetch;
  const char* bound;
} kComparisons[] = {
    {"4k", "packed"}, {"8k", "packed"}, {"64k", "64k"}, {"1m", "1m"}};

}  // namespace

absl::Status PerftestBounds::Measure(WireReport* report) {
  for (const Size& size : kBoundSizes) {
    FC_RETURN_IF_ERROR(MeasureSize(size.name, size.bytes, report));
  }
  return absl::OkStatus();
}

absl::Status PerftestBounds::MeasureSize(const std::string& name, size_t size,
                                         WireReport* report) {
  FC_RETURN_IF_ERROR(
      MeasureBest(absl::StrCat("perftest_gbps/", name, "/", transport_),
                  UcxBandwidthTests(), size, report));
  return MeasureBest(
      absl::StrCat("perftest_message_gbps/", name, "/", transport_),
      UcxMessageTests(), size, report);
}

absl::Status PerftestBounds::MeasureBest(const std::string& path,
                                         const std::vector<std::string>& tests,
                                         size_t size, WireReport* report) {
  UcxPerftestOptions options;
  options.transports = transport_;
  options.size = size;
  if (smoke_) options.iterations = 64;
  const auto chosen = chosen_.find(path);
  if (chosen != chosen_.end()) options = chosen->second;
  FC_ASSIGN_OR_RETURN(
      const UcxPerftestResult result,
      chosen != chosen_.end()
          ? RunUcxPerftest(options)
          : BestUcxPerftest(smoke_ ? std::vector{tests.front()} : tests,
                            options));
  report->AddRate(path, "GB/s", 1e-9 * result.bytes_per_second);
  if (chosen == chosen_.end()) {
    options.test = result.test;
    options.iterations = std::max<uint64_t>(
        64, static_cast<uint64_t>(kBoundSeconds * result.bytes_per_second /
                                  static_cast<double>(size)));
    chosen_[path] = options;
    report->Note(path, result.test);
  }
  return absl::OkStatus();
}

void MeasureScans(Harness* harness, WireReport* report) {
  AddScanCases(*harness);
  harness->Run();
  for (const int bits : {4, 2}) {
    const BenchFigure* scan = harness->Find(ScanCaseName(bits));
    if (scan == nullptr) continue;  // --filter
    report->Add(absl::StrCat("scan_keys_gbps/", bits), *scan);
    const BenchFigure* read = harness->Find(scan->roofline);
    if (read == nullptr) continue;
    report->Add(absl::StrCat("scan_roofline_gbps/", bits), *read);
  }
}

void CompareWithPerftest(const std::string& transport, WireReport* report) {
  for (const auto& [fetch, bound] : kComparisons) {
    const std::string over = absl::StrCat("fetch_gbps/", fetch, "/", transport);
    report->AddRatio(
        absl::StrCat("fetch_ratio/", fetch, "/", transport), over,
        absl::StrCat("perftest_gbps/", bound, "/", transport));
    report->AddRatio(
        absl::StrCat("fetch_message_ratio/", fetch, "/", transport), over,
        absl::StrCat("perftest_message_gbps/", bound, "/", transport));
  }
}

}  // namespace forecache
