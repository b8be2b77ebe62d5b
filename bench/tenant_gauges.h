// What a store's /metrics say of a tenant.
#ifndef FORECACHE_BENCH_TENANT_GAUGES_H_
#define FORECACHE_BENCH_TENANT_GAUGES_H_

#include <string>

#include "absl/status/statusor.h"

namespace forecache {

// Bytes of memory that the tenant held when the store last looked, which it
// does every second.  `address`: host:port of /metrics.
absl::StatusOr<double> TenantHeldBytes(const std::string& address,
                                       const std::string& tenant);
// The same once it has not changed for two looks.
absl::StatusOr<double> SettledHeldBytes(const std::string& address,
                                        const std::string& tenant);

}  // namespace forecache

#endif  // FORECACHE_BENCH_TENANT_GAUGES_H_
