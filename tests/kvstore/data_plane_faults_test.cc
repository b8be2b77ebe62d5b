// Client and store over a network that misbehaves by seeds: never a wrong byte,
// never a request that does not end.
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "tests/kvstore/correction_fixture.h"
#include "transport/faulty_transport.h"

namespace forecache {
namespace {

constexpr int kSeeds = 40;
constexpr int kRequests = 30;
constexpr Nanos kStep = 20 * kMillisecond;

FaultOptions Faults(uint64_t seed) {
  // Each seed has another mix, and some have none of a kind.
  Rng rng(seed);
  auto chance = [&](double most) {
    return rng.Below(2) == 0 ? 0.0 : rng.Uniform() * most;
  };
  FaultOptions options;
  options.seed = seed;
  options.drop = chance(0.1);
  options.delay = chance(0.5);
  options.duplicate = chance(0.3);
  options.reorder = chance(0.3);
  options.corrupt = chance(0.1);
  options.partition = chance(0.02);
  return options;
}

class FaultsTest : public StoreFixture,
                   public ::testing::WithParamInterface<int> {
 protected:
  FaultsTest() : context_(1, 3) {
    NewSession opened = Open(context_);
    session_ = {opened.id, {opened.key[0], opened.key[1]}, kTestGeometry};
    for (int i = 0; i < 2; ++i) FC_CHECK_OK(PutSegment(opened.id, context_, i));
    const uint64_t seed = GetParam();
    plane_ = std::make_unique<DataPlane>(
        store_.get(),
        std::make_unique<FaultyTransport>(std::make_unique<LoopbackTransport>(),
                                          Faults(2 * seed)),
        DataPlaneOptions{.push_buffers = 2});
    transport_ = std::make_unique<FaultyTransport>(
        std::make_unique<LoopbackTransport>(), Faults(2 * seed + 1));
    client_ = std::make_unique<DataClient>(transport_.get(), &clock_);
  }
  ~FaultsTest() override { client_ = nullptr; }

  // Until all requests have ended; time passes.
  bool Drive() {
    for (int i = 0; client_->requests_in_flight() > 0; ++i) {
      if (i > 4 * kRequestTimeout / kStep) return false;
      client_->Progress();
      plane_->RunOnce();
      clock_.Advance(kStep);
    }
    return true;
  }
  void Connect() {
    absl::Status hello = absl::UnknownError("not yet");
    for (int i = 0; i < 50 && !hello.ok(); ++i) {
      FC_CHECK_OK(client_->Connect(
          AddressOf(*plane_), [&](const absl::Status& got) { hello = got; }));
      ASSERT_TRUE(Drive());
    }
    ASSERT_EQ(hello, absl::OkStatus());
  }

  TestContext context_;
  SessionHandle session_;
  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<FaultyTransport> transport_;
  std::unique_ptr<DataClient> client_;
};

TEST_P(FaultsTest, NoWrongByteAndNoHang) {
  SCOPED_TRACE(GetParam());
  ASSERT_NO_FATAL_FAILURE(Connect());
  std::vector<std::unique_ptr<KeepingSink>> fetches;
  std::vector<std::unique_ptr<KeepingCorrectSink>> corrections;
  std::vector<float> q(2 * 2 * 32, 0.3f);
  int ended = 0, started = 0;
  auto done = [&](const absl::Status&) { ++ended; };
  for (int i = 0; i < kRequests; ++i) {
    TestCorrection correction(kTestGeometry, 32, 1 + i % 5, i, 100 * i);
    correction.request.wants_scores = i % 2 == 0;
    corrections.push_back(std::make_unique<KeepingCorrectSink>());
    fetches.push_back(std::make_unique<KeepingSink>());
    auto fetch = client_->Fetch(session_, 0, AllEntries(kTestGeometry, 32),
                                fetches.back().get(), done);
    started += fetch.ok();
    started += client_
                   ->Correct(session_, correction.Request(),
                             corrections.back().get(), done)
                   .ok();
    started += client_
                   ->PutBlocks(session_, 0, 32, 4,
                               context_.PutPayload(0, 32, 4), done)
                   .ok();
    started += client_
                   ->Probe(session_, 0, 32, 0.1f, q,
                           [&](const absl::StatusOr<ProbeResult>& result) {
                             done(result.status());
                           })
                   .ok();
    if (i % 7 == 3 && fetch.ok()) client_->Cancel(*fetch);
    client_->Progress();
    plane_->RunOnce();
  }
  ASSERT_TRUE(Drive()) << "hangs";
  EXPECT_EQ(ended, started);
  for (int i = 0; i < kRequests; ++i) {
    const KeepingSink& sink = *fetches[i];
    EXPECT_EQ(sink.blocks.size() + sink.failed.size(), 64);
    for (const auto& [at, bytes] : sink.blocks) {
      ExpectBlock(sink, context_, 0, at.first, at.second);
    }
    // The sink itself sees that no slot is answered twice.
    EXPECT_EQ(corrections[i]->answered.size(), 2 * (1 + i % 5));
    EXPECT_LE(corrections[i]->replies, 1);
    ExpectBlocks(*corrections[i], context_, 0);
  }
  // When the network is well again, so is everything else: nothing leaked.
  transport_->SetFaults({});
  KeepingSink after;
  bool served = false;
  for (int i = 0; i < 50 && !served; ++i) {
    after = KeepingSink();
    FC_CHECK_OK(client_->Fetch(session_, 0, AllEntries(kTestGeometry, 32),
                               &after, nullptr).status());
    ASSERT_TRUE(Drive());
    served = after.blocks.size() == 64;
  }
  EXPECT_TRUE(served);
}

INSTANTIATE_TEST_SUITE_P(Seeds, FaultsTest, ::testing::Range(1, kSeeds + 1));

}  // namespace
}  // namespace forecache
