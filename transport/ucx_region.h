// Memory registered with UCX.
#ifndef FORECACHE_TRANSPORT_UCX_REGION_H_
#define FORECACHE_TRANSPORT_UCX_REGION_H_

#include <ucp/api/ucp.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "transport/transport.h"

namespace forecache::ucx_internal {

absl::StatusOr<std::unique_ptr<MemoryRegion>> RegisterRegion(
    ucp_context_h context, MutableBytes memory);

}  // namespace forecache::ucx_internal

#endif  // FORECACHE_TRANSPORT_UCX_REGION_H_
