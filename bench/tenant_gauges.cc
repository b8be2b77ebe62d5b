#include "bench/tenant_gauges.h"

#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "common/status.h"
#include "demo/processes.h"

namespace forecache {
namespace {

constexpr int kLooksMax = 10;
constexpr absl::Duration kBetweenLooks = absl::Milliseconds(2200);

}  // namespace

absl::StatusOr<double> TenantHeldBytes(const std::string& address,
                                       const std::string& tenant) {
  const std::string metrics = demo::FetchMetrics(address);
  if (metrics.empty()) {
    return absl::UnavailableError(absl::StrCat(address, ": no metrics"));
  }
  const std::string series =
      absl::StrCat("forecache_store_tenant_held_bytes{tenant=\"", tenant,
                   "\",tier=\"dram\"} ");
  const size_t at = metrics.find(series);
  if (at == std::string::npos) {
    return absl::NotFoundError(absl::StrCat(address, ": no ", series));
  }
  return std::strtod(metrics.c_str() + at + series.size(), nullptr);
}

absl::StatusOr<double> SettledHeldBytes(const std::string& address,
                                        const std::string& tenant) {
  double before = -1;
  for (int look = 0; look < kLooksMax; ++look) {
    FC_ASSIGN_OR_RETURN(const double held, TenantHeldBytes(address, tenant));
    if (held > 0 && held == before) return held;
    before = held;
    absl::SleepFor(kBetweenLooks);
  }
  return absl::DeadlineExceededError(
      absl::StrCat("tenant ", tenant, ": what it holds does not settle"));
}

}  // namespace forecache
