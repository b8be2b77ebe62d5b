// A DataClient and a DataPlane on two threads, in one process.
#ifndef FORECACHE_TESTS_KVSTORE_DATA_PLANE_FIXTURE_H_
#define FORECACHE_TESTS_KVSTORE_DATA_PLANE_FIXTURE_H_

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "common/crc32c.h"
#include "kvstore/data_plane.h"
#include "tests/kvstore/hello.h"
#include "tests/kvstore/store_fixture.h"
#include "transport/loopback_transport.h"

namespace forecache {

// Keeps what a fetch brings.
//
// Threads: one thread.
class KeepingSink : public BlockSink {
 public:
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    blocks[{entry.kv_head, entry.block}] = {{k.begin(), k.end()},
                                            {v.begin(), v.end()}};
    last = entry;
  }
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override {
    failed[{entry.kv_head, entry.block}] = why;
  }

  using Bytes = std::vector<std::byte>;
  std::map<std::pair<int, int>, std::pair<Bytes, Bytes>> blocks;
  std::map<std::pair<int, int>, absl::Status> failed;
  wire::PushEntry last;
};

class DataPlaneFixture : public StoreFixture {
 protected:
  DataPlaneFixture() { MakePlane({}); }
  ~DataPlaneFixture() override {
    client_ = nullptr;
    plane_ = nullptr;
  }

  void MakePlane(const DataPlaneOptions& options) {
    client_ = nullptr;
    plane_ = std::make_unique<DataPlane>(
        store_.get(), std::make_unique<LoopbackTransport>(), options);
    plane_->Start();
    client_transport_ = std::make_unique<LoopbackTransport>();
    client_ = std::make_unique<DataClient>(client_transport_.get(), &clock_);
  }

  // Moves the client until `done`, at most about ten seconds.
  bool Until(const std::function<bool()>& done) {
    Nanos end = Clock::Real()->Now() + 10 * kSecond;
    while (!done()) {
      if (Clock::Real()->Now() > end) return false;
      if (client_->Progress() == 0) client_->Wait(kMillisecond);
    }
    return true;
  }

  // The status that `start` hands to its callback.
  absl::Status Await(
      const std::function<absl::Status(DataClient::Done)>& start) {
    bool ended = false;
    absl::Status result;
    absl::Status status = start([&](const absl::Status& got) {
      ended = true;
      result = got;
    });
    if (!status.ok()) return status;
    if (!Until([&] { return ended; })) return absl::UnknownError("no answer");
    return result;
  }

  absl::Status Connect() {
    return Await([&](DataClient::Done done) {
      return client_->Connect(AddressOf(*plane_), std::move(done));
    });
  }

  static SessionHandle HandleOf(const NewSession& session,
                                const TestContext& context) {
    return {session.id, {session.key[0], session.key[1]}, context.geometry()};
  }

  absl::Status ClientPut(const SessionHandle& session,
                         const TestContext& context, int layer, int first,
                         int count) {
    return Await([&](DataClient::Done done) {
      return client_->PutBlocks(session, layer, first, count,
                                context.PutPayload(layer, first, count),
                                std::move(done));
    });
  }

  absl::Status ClientFetch(const SessionHandle& session, int layer,
                           const std::vector<wire::FetchEntry>& entries,
                           BlockSink* sink) {
    return Await([&](DataClient::Done done) {
      return client_->Fetch(session, layer, entries, sink, std::move(done))
          .status();
    });
  }

  absl::StatusOr<std::pair<std::vector<float>, std::vector<float>>>
  ClientProbe(const SessionHandle& session, int layer, int blocks,
              const std::vector<float>& q, float scale) {
    std::pair<std::vector<float>, std::vector<float>> scores;
    absl::Status status = Await([&](DataClient::Done done) {
      return client_->Probe(
          session, layer, blocks, scale, q,
          [&scores, done](const absl::StatusOr<ProbeResult>& result) {
            if (result.ok()) {
              scores.first.assign(result->lse.begin(), result->lse.end());
              for (uint16_t bits : result->log_probability) {
                scores.second.push_back(F16ToFloat(bits));
              }
            }
            done(result.status());
          }).status();
    });
    if (!status.ok()) return status;
    return scores;
  }

  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<LoopbackTransport> client_transport_;
  std::unique_ptr<DataClient> client_;
};

// Whether a fetch brought the context's bytes.
inline void ExpectBlock(const KeepingSink& sink, const TestContext& context,
                        int layer, int head, int block) {
  auto found = sink.blocks.find({head, block});
  ASSERT_NE(found, sink.blocks.end()) << "head " << head << " block " << block;
  EXPECT_TRUE(std::ranges::equal(found->second.first,
                                 context.Part(layer, head, block, false)));
  EXPECT_TRUE(std::ranges::equal(found->second.second,
                                 context.Part(layer, head, block, true)));
}

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_DATA_PLANE_FIXTURE_H_
