// A client whose store dies and returns, perhaps without what it had.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "tests/kvstore/data_plane_fixture.h"

namespace forecache {
namespace {

constexpr Nanos kHold = 5 * kSecond;

// Client and store, moved by hand; the store can be replaced.
class DataClientHoldTest : public StoreFixture {
 protected:
  DataClientHoldTest() : context_(1, 3), client_(&transport_, &clock_) {
    client_.SetHold(kHold);
    StartStore();
    session_ = OpenThere();
    Connect();
  }
  ~DataClientHoldTest() override { plane_ = nullptr; }

  void StartStore() {
    MakeStore(size_t{16} << 20);
    plane_ = std::make_unique<DataPlane>(
        store_.get(), std::make_unique<LoopbackTransport>(),
        DataPlaneOptions());
  }
  void KillStore() {
    plane_ = nullptr;
    Move();
  }
  SessionHandle OpenThere() {
    const NewSession opened = Open(context_);
    return {opened.id, {opened.key[0], opened.key[1]}, kTestGeometry};
  }
  void Connect() {
    StoreAddress address = AddressOf(*plane_);
    address.durable = true;
    std::optional<absl::Status> hello;
    FC_CHECK_OK(client_.Connect(
        address, [&](const absl::Status& got) { hello = got; }));
    Move();
    FC_CHECK(hello.has_value());
    FC_CHECK_OK(*hello);
  }
  void Move() {
    for (int i = 0; i < 40; ++i) {
      client_.Progress();
      if (plane_ != nullptr) plane_->RunOnce();
    }
  }
  void PutOne(int layer, int first, int count) {
    std::optional<absl::Status> put;
    FC_CHECK_OK(client_.PutBlocks(session_, layer, first, count,
                                  context_.PutPayload(layer, first, count),
                                  [&](const absl::Status& got) { put = got; }));
    Move();
    ASSERT_TRUE(put.has_value());
    ASSERT_EQ(*put, absl::OkStatus());
  }
  void StartFetch(int blocks) {
    ended_ = 0;
    FC_CHECK_OK(client_
                    .Fetch(session_, 1, AllEntries(kTestGeometry, blocks),
                           &sink_,
                           [this](const absl::Status& got) {
                             ++ended_;
                             status_ = got;
                           })
                    .status());
  }
  absl::Status RestoreAs(const SessionHandle& now,
                         std::vector<uint32_t> held) {
    std::optional<absl::Status> restored;
    client_.Restore(session_.id, now, held,
                    [&](const absl::Status& got) { restored = got; });
    Move();
    return restored.value_or(absl::UnknownError("no end"));
  }
  void ExpectRead(int blocks) {
    EXPECT_EQ(ended_, 1);
    EXPECT_EQ(status_, absl::OkStatus());
    EXPECT_TRUE(sink_.failed.empty());
    ASSERT_EQ(sink_.blocks.size(), size_t(blocks * kTestGeometry.kv_heads));
    for (const auto& [at, parts] : sink_.blocks) {
      const auto [head, block] = at;
      EXPECT_TRUE(std::ranges::equal(parts.first,
                                     context_.Part(1, head, block, false)));
      EXPECT_TRUE(std::ranges::equal(parts.second,
                                     context_.Part(1, head, block, true)));
    }
  }

  const TestContext context_;
  std::unique_ptr<DataPlane> plane_;
  LoopbackTransport transport_;
  DataClient client_;
  SessionHandle session_;
  KeepingSink sink_;
  int ended_ = 0;
  absl::Status status_;
};

TEST_F(DataClientHoldTest, WhatTheStoreLostIsPutAgainAndRequestsGoOn) {
  PutOne(0, 0, 20);
  PutOne(1, 0, 20);  // over the end of a segment
  StartFetch(20);
  KillStore();
  EXPECT_TRUE(client_.IsHolding());
  EXPECT_EQ(ended_, 0) << status_;
  EXPECT_TRUE(sink_.failed.empty());
  // Asked while nobody is there.
  std::optional<absl::Status> probed;
  const std::vector<float> q(2 * 2 * 32, 0.5f);
  ASSERT_TRUE(client_
                  .Probe(session_, 0, 20, 0.2f, q,
                         [&](const absl::StatusOr<ProbeResult>& result) {
                           probed = result.status();
                         })
                  .ok());
  StartStore();
  const SessionHandle now = OpenThere();
  Connect();
  EXPECT_EQ(ended_, 0);
  EXPECT_EQ(RestoreAs(now, {}), absl::OkStatus());
  EXPECT_EQ(client_.counters().blocks_restored, 2u * 20 * 2);
  EXPECT_EQ(ended_, 0) << "before GoOn";
  client_.GoOn();
  Move();
  EXPECT_FALSE(client_.IsHolding());
  ExpectRead(20);
  ASSERT_TRUE(probed.has_value());
  EXPECT_EQ(*probed, absl::OkStatus());
}

TEST_F(DataClientHoldTest, SurvivesASecondDeath) {
  PutOne(1, 0, 16);
  StartFetch(16);
  for (int i = 0; i < 2; ++i) {
    KillStore();
    StartStore();
    const SessionHandle now = OpenThere();
    Connect();
    ASSERT_EQ(RestoreAs(now, {}), absl::OkStatus());
  }
  client_.GoOn();
  Move();
  ExpectRead(16);
}

TEST_F(DataClientHoldTest, ADeathWhileItRestoresEndsTheRestore) {
  PutOne(1, 0, 16);
  KillStore();
  StartStore();
  const SessionHandle now = OpenThere();
  Connect();
  std::optional<absl::Status> restored;
  client_.Restore(session_.id, now, {},
                  [&](const absl::Status& got) { restored = got; });
  KillStore();
  ASSERT_TRUE(restored.has_value());
  EXPECT_TRUE(absl::IsUnavailable(*restored)) << *restored;
  client_.GoOn();  // nobody is there: nothing happens
  EXPECT_TRUE(client_.IsHolding());
}

TEST_F(DataClientHoldTest, HeldSegmentsAreNotPutAgain) {
  PutOne(1, 0, 40);
  KillStore();
  StartStore();
  const SessionHandle now = OpenThere();
  Connect();
  EXPECT_EQ(RestoreAs(now, {0, 2}), absl::OkStatus());
  EXPECT_EQ(client_.counters().blocks_restored, 16u * 2);
  EXPECT_EQ(store_->Snapshot(now.id)->segments->at(1).view->Present(1),
            0xFFFF);
}

TEST_F(DataClientHoldTest, NothingIsKeptOfWhatIsDurable) {
  PutOne(0, 0, 20);
  const uint64_t all = client_.counters().kept_bytes;
  EXPECT_GT(all, 0u);
  client_.Durable(session_.id, 1);  // the put reaches into segment 1
  EXPECT_EQ(client_.counters().kept_bytes, all);
  client_.Durable(session_.id, 2);
  EXPECT_EQ(client_.counters().kept_bytes, 0u);
  PutOne(1, 0, 20);
  client_.Forget(session_.id);
  EXPECT_EQ(client_.counters().kept_bytes, 0u);
}

TEST_F(DataClientHoldTest, TheHoldEnds) {
  StartFetch(16);
  KillStore();
  clock_.Advance(kHold - 1);
  Move();
  EXPECT_EQ(ended_, 0);
  clock_.Advance(1);
  Move();
  EXPECT_EQ(ended_, 1);
  EXPECT_TRUE(absl::IsUnavailable(status_)) << status_;
  EXPECT_EQ(sink_.failed.size(), 16u * 2);
  EXPECT_FALSE(client_.IsHolding());
  EXPECT_TRUE(absl::IsUnavailable(
      client_
          .Fetch(session_, 1, AllEntries(kTestGeometry, 1), &sink_, nullptr)
          .status()));
}

TEST_F(DataClientHoldTest, ASessionThatCannotGoOnEnds) {
  StartFetch(16);
  KillStore();
  client_.FailSession(session_.id + 1, absl::UnavailableError("another"));
  EXPECT_EQ(ended_, 0);
  client_.FailSession(session_.id, absl::UnavailableError("lost"));
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(status_, absl::UnavailableError("lost"));
}

TEST_F(DataClientHoldTest, WithoutAHoldALossIsAnError) {
  client_.SetHold(0);
  StartFetch(16);
  KillStore();
  EXPECT_EQ(ended_, 1);
  EXPECT_TRUE(absl::IsUnavailable(status_)) << status_;
}

}  // namespace
}  // namespace forecache
