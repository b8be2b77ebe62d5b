// Whether the data plane answers at all: a part of being ready.
#ifndef FORECACHE_KVSTORE_SELF_CHECK_H_
#define FORECACHE_KVSTORE_SELF_CHECK_H_

#include <memory>

#include "absl/status/status.h"
#include "kvstore/client/data_client.h"
#include "transport/transport.h"

namespace forecache {

// Connects to a store as a worker does, by a transport of its own, and goes
// away again.  kDeadlineExceeded after kConnectTimeout.
absl::Status CheckDataPlane(std::unique_ptr<Transport> transport,
                            const StoreAddress& store);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SELF_CHECK_H_
