// A worker of a store's binary that may be killed at any time.
#ifndef FORECACHE_TESTS_KVSTORE_MORTAL_STORE_CLIENT_H_
#define FORECACHE_TESTS_KVSTORE_MORTAL_STORE_CLIENT_H_

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "kvstore/client/control_client.h"
#include "kvstore/client/data_client.h"
#include "tests/kvstore/context.h"
#include "transport/ucx_transport.h"

namespace forecache {

inline constexpr Nanos kAnswerTimeout = 15 * kSecond;

// A worker whose store may die under it.
//
// Threads: one thread; `dead` is set by another.
class MortalStoreClient {
 public:
  MortalStoreClient(const std::string& address, const std::atomic<bool>* dead)
      : control(address),
        dead_(dead),
        transport_(*OpenUcxTransport({.transports = "tcp"})),
        client_(transport_.get(), Clock::Real()) {
    const auto store = control.Attach("mortal");
    if (!store.ok()) return;
    connected_ = Await([&](DataClient::Done done) {
                   return client_.Connect(*store, std::move(done));
                 }).ok();
  }

  bool connected() const { return connected_; }

  // The end of a request; kUnavailable as soon as the store is dead.
  absl::Status Await(
      const std::function<absl::Status(DataClient::Done)>& start) {
    // The callback may come after this returned.
    auto end = std::make_shared<std::optional<absl::Status>>();
    const absl::Status started =
        start([end](const absl::Status& got) { *end = got; });
    if (!started.ok()) return started;
    const Nanos until = Clock::Real()->Now() + kAnswerTimeout;
    while (!end->has_value() && !*dead_) {
      if (Clock::Real()->Now() > until) {
        return absl::DeadlineExceededError("no answer");
      }
      if (client_.Progress() == 0) client_.Wait(kMillisecond);
    }
    return end->value_or(absl::UnavailableError("the store is dead"));
  }
  // Puts one layer of a whole segment.
  absl::Status Put(const SessionHandle& session, int layer, int segment,
                   const std::vector<std::byte>& payload) {
    return Await([&](DataClient::Done done) {
      return client_.PutBlocks(session, layer, segment * kSegmentBlocks,
                               kSegmentBlocks, payload, std::move(done));
    });
  }
  // Reads the first segments of a context.  The sink must outlive the client.
  absl::Status Read(const SessionHandle& session, int segments,
                    BlockSink* sink) {
    for (int layer = 0; layer < kTestGeometry.layers; ++layer) {
      const absl::Status end = Await([&](DataClient::Done done) {
        return client_
            .Fetch(session, layer,
                   AllEntries(kTestGeometry, segments * kSegmentBlocks), sink,
                   std::move(done))
            .status();
      });
      if (!end.ok()) return end;
    }
    return absl::OkStatus();
  }

  ControlClient control;

 private:
  const std::atomic<bool>* const dead_;
  bool connected_ = false;
  std::unique_ptr<Transport> transport_;
  DataClient client_;  // ends before its transport
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_MORTAL_STORE_CLIENT_H_
