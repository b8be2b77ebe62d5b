// Stores that are lost and come back, by their control planes.
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "tests/worker/served_store.h"

namespace forecache {
namespace {

constexpr int kSegments = 8;

class GroupControlTest : public ::testing::Test {
 protected:
  GroupControlTest() {
    MemberList members{.epoch = 1};
    for (int m = 0; m < 2; ++m) {
      stores_.push_back(std::make_unique<ServedStore>(Clock::Real()));
      addresses_.push_back("127.0.0.1:" + std::to_string(stores_[m]->port));
      members.names.push_back("store-" + std::to_string(m));
    }
    sessions_ = std::make_unique<GroupSessions>(members);
    data_plane_ = std::make_unique<DataPlaneThread>(
        std::make_unique<LoopbackTransport>(), Clock::Real(),
        sessions_.get());
    control_ = std::make_unique<GroupControl>(addresses_, sessions_.get());
    FC_CHECK_OK(control_->Start("worker", data_plane_->ForControl()));
  }

  absl::StatusOr<OpenedSession> Open(const TestContext& context) {
    return control_->OpenSession(
        {"00ff", "llama", context.geometry(), 10000.0f}, Tokens(context),
        "request");
  }
  static std::vector<int32_t> Tokens(const TestContext& context) {
    return {context.tokens().begin(), context.tokens().end()};
  }

  absl::Status PutAll(const SessionHandle& session,
                      const TestContext& context) {
    return PutBlocksFrom(data_plane_.get(), session, context, 0);
  }

  // How many blocks of layer 0, KV head 0 come.
  size_t Fetchable(const SessionHandle& session, const TestContext& context) {
    KeepingSink sink;
    absl::Notification ended;
    std::vector<wire::FetchEntry> entries =
        AllEntries(context.geometry(), context.blocks());
    entries.resize(context.blocks());
    data_plane_->Run([&] {
      FC_CHECK_OK(data_plane_->client()
                      ->Fetch(session, 0, entries, &sink,
                              [&](const absl::Status&) { ended.Notify(); })
                      .status());
    });
    ended.WaitForNotification();
    return sink.blocks.size();
  }

  bool Until(const std::function<bool()>& done) {
    const Nanos end = Clock::Real()->Now() + 20 * kSecond;
    while (!done()) {
      if (Clock::Real()->Now() > end) return false;
      data_plane_->Run([] {});  // both threads may move
      std::this_thread::yield();
    }
    return true;
  }

  std::vector<std::unique_ptr<ServedStore>> stores_;
  std::vector<std::string> addresses_;
  std::unique_ptr<GroupSessions> sessions_;
  std::unique_ptr<DataPlaneThread> data_plane_;
  std::unique_ptr<GroupControl> control_;
};

TEST_F(GroupControlTest, SessionsAreResumedWhereTheStoreHasThem) {
  TestContext context(1, kSegments);
  auto opened = Open(context);
  ASSERT_EQ(opened.status(), absl::OkStatus());
  ASSERT_EQ(PutAll(opened->handle, context), absl::OkStatus());
  ASSERT_EQ(Fetchable(opened->handle, context), context.blocks());
  stores_[1]->Restart(/*keep=*/true);
  ASSERT_TRUE(Until([&] { return control_->counters().reconnects > 0; }));
  ASSERT_TRUE(Until([&] { return sessions_->IsAlive(1); }));
  EXPECT_EQ(control_->counters().sessions_resumed, 1u);
  EXPECT_EQ(control_->counters().sessions_reopened, 0u);
  EXPECT_EQ(Fetchable(opened->handle, context), context.blocks());
  EXPECT_EQ(control_->CloseSession(opened->handle), absl::OkStatus());
  EXPECT_EQ(stores_[0]->core->Occupancy().sessions, 0u);
  EXPECT_EQ(stores_[1]->core->Occupancy().sessions, 0u);
}

TEST_F(GroupControlTest, WhatALostStoreHadIsAbsentAndNewBlocksFindIt) {
  TestContext context(2, kSegments);
  auto opened = Open(context);
  ASSERT_EQ(opened.status(), absl::OkStatus());
  ASSERT_EQ(PutAll(opened->handle, context), absl::OkStatus());
  stores_[1]->Restart(/*keep=*/false);
  ASSERT_TRUE(Until([&] { return control_->counters().reconnects > 0; }));
  ASSERT_TRUE(Until([&] { return sessions_->IsAlive(1); }));
  EXPECT_EQ(control_->counters().sessions_reopened, 1u);
  const size_t left = Fetchable(opened->handle, context);
  EXPECT_GT(left, 0u);
  EXPECT_LT(left, context.blocks());
  ASSERT_EQ(PutAll(opened->handle, context), absl::OkStatus());
  EXPECT_EQ(Fetchable(opened->handle, context), context.blocks());
  for (int i = 0; i < kSegments; ++i) {
    EXPECT_EQ(control_->SealSegment(opened->handle, i, Tokens(context)),
              absl::OkStatus());
  }
  EXPECT_EQ(control_->counters().seals_skipped, 0u);
  const auto again = Open(context);
  ASSERT_EQ(again.status(), absl::OkStatus());
  EXPECT_EQ(again->cached_tokens, kSegments * kSegmentTokens);
}

TEST_F(GroupControlTest, ASessionOpensWithoutALostStore) {
  TestContext context(3, kSegments);
  stores_[0]->server->Shutdown();
  stores_[0]->plane = nullptr;
  ASSERT_TRUE(Until([&] { return !sessions_->IsAlive(0); }));
  auto opened = Open(context);
  ASSERT_EQ(opened.status(), absl::OkStatus());
  ASSERT_EQ(PutAll(opened->handle, context), absl::OkStatus());
  EXPECT_EQ(Fetchable(opened->handle, context), context.blocks());
  // Another member sealing everything leaves nothing private.
  EXPECT_EQ(control_->SealSegment(opened->handle, 0, Tokens(context)),
            absl::OkStatus());
  EXPECT_EQ(control_->CloseSession(opened->handle), absl::OkStatus());
}

}  // namespace
}  // namespace forecache
