// UCX's context, set up for our messages, and its errors in our words.
#ifndef FORECACHE_TRANSPORT_UCX_CONTEXT_H_
#define FORECACHE_TRANSPORT_UCX_CONTEXT_H_

#include <ucp/api/ucp.h>

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "transport/ucx_transport.h"

namespace forecache::ucx_internal {

// A context with our settings; the caller ends it with ucp_cleanup.  From the
// first call on, UCX's own log lines go to ours.
absl::StatusOr<ucp_context_h> OpenContext(const UcxOptions& options);

// `what` says what was being done.
absl::Status FromUcs(ucs_status_t status, const std::string& what);

// "shm", "tcp" or "rdma": what the endpoint's messages travel by.
std::string EndpointTransport(ucp_ep_h endpoint);

}  // namespace forecache::ucx_internal

#endif  // FORECACHE_TRANSPORT_UCX_CONTEXT_H_
