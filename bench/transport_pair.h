// Two processes that measure the transport between them.
#ifndef FORECACHE_BENCH_TRANSPORT_PAIR_H_
#define FORECACHE_BENCH_TRANSPORT_PAIR_H_

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "transport/transport.h"
#include "transport/ucx_transport.h"

namespace forecache {

// This process and a forked one, pinned to cores 0 and 1 where there are two.
// Idle, both sleep.
//
// REQUIRES: made before this process starts threads or opens a transport.
// Threads: one.
class TransportPair : private MessageHandler {
 public:
  static absl::StatusOr<std::unique_ptr<TransportPair>> Fork(
      const UcxOptions& options);
  ~TransportPair() override;
  TransportPair(const TransportPair&) = delete;
  TransportPair& operator=(const TransportPair&) = delete;

  // Opens this side and meets the other.  Call it when all pairs are forked.
  absl::Status Open();

  // Seconds to send `count` messages of `size` bytes, `window` of them under
  // way, until the peer says that it has them all.
  absl::StatusOr<double> Stream(size_t size, int count, int window);
  // Microseconds of `count` requests, each answered with `reply` bytes.
  absl::StatusOr<std::vector<double>> RoundTrips(size_t request, size_t reply,
                                                 int count);

  std::string TransportName() const { return peer_->TransportName(); }
  // Whether messages to the peer pass through memory shared with it.
  absl::Status MailboxStatus();

 private:
  TransportPair() = default;
  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override;
  void OnDisconnect(Endpoint* from, const absl::Status& why) override;
  // Sleeps only after a while of spinning, so that latencies are the wire's.
  absl::Status PumpUntil(const std::function<bool()>& done);

  UcxOptions options_;
  pid_t child_ = -1;
  int socket_ = -1;
  std::unique_ptr<Transport> transport_;
  Endpoint* peer_ = nullptr;
  std::vector<std::byte> payload_;
  int answers_ = 0;
  int sending_ = 0;
  absl::Status failure_;
};

}  // namespace forecache

#endif  // FORECACHE_BENCH_TRANSPORT_PAIR_H_
