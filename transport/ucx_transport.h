// The Transport over UCX: shared memory on one host, TCP or RDMA between hosts.
//
// What was run and measured is shared memory and TCP.  On RDMA the same code
// takes what UCX offers; it has never been run on such a device.
#ifndef FORECACHE_TRANSPORT_UCX_TRANSPORT_H_
#define FORECACHE_TRANSPORT_UCX_TRANSPORT_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "transport/transport.h"

namespace forecache {

struct UcxOptions {
  // Which of UCX's transports may be used: "all", or a list such as "tcp".
  // Restrict it to test a path, or to keep one out that misbehaves.
  std::string transports = "all";

  // Which network devices, "all" or a list such as "eth0" or "mlx5_0:1".  Set
  // it on hosts whose fabric is not the fastest device that UCX sees.
  std::string net_devices = "all";

  // Sends large messages by rendezvous on TCP too, not only on shared memory
  // and RDMA.  It measured slower there (64K in 38 us instead of 26, half the
  // throughput): for tests.
  bool tcp_rendezvous = false;

  // Messages between processes of one host pass through memory that each pair
  // shares (see mailbox.h).  Off, they pass UCX's own shared queue: slower, and
  // a peer that is killed there may take the queue along.  For tests.
  bool mailboxes = true;

  // Further UCX settings, without the "UCX_" of their environment variables.
  // A variable in the environment wins over our choices, not over these.
  std::vector<std::pair<std::string, std::string>> settings;
};

// Opens one UCX context and worker.  Peers are watched: their death shows as
// OnDisconnect, at once on TCP and RDMA, within about a second on one host.
// Returns kUnavailable when UCX finds no device that the options allow.
absl::StatusOr<std::unique_ptr<Transport>> OpenUcxTransport(
    const UcxOptions& options = {});

// Of the library that is loaded: "1.13.1".
std::string UcxVersion();

}  // namespace forecache

#endif  // FORECACHE_TRANSPORT_UCX_TRANSPORT_H_
