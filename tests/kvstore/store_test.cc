#include "kvstore/store.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/kvstore/store_fixture.h"

namespace forecache {
namespace {

using StoreTest = StoreFixture;

TEST_F(StoreTest, SealedSegmentsAreFoundAgain) {
  TestContext context(1, 3);
  EXPECT_EQ(Open(context).cached_tokens, 0);
  Fill(context);
  EXPECT_EQ(Cached(context), 3 * 256);
  EXPECT_EQ(Open(context).cached_tokens, 3 * 256);
  // At least one token is left to compute.
  auto exact = store_->OpenSession(
      TestModel(), context.tokens().first(3 * 256), "exact");
  EXPECT_EQ(exact->cached_tokens, 2 * 256);
  // Another model, other tokens: never.
  ModelIdentityFields other = TestModel();
  other.rope_base = 1;
  EXPECT_EQ(*store_->LookupPrefix(other, context.tokens()), 0);
  EXPECT_EQ(Cached(TestContext(2, 3)), 0);
}

TEST_F(StoreTest, EqualSegmentsAreKeptOnce) {
  TestContext context(3, 1);
  NewSession a = Open(context);
  NewSession b = Open(context);
  ASSERT_EQ(PutSegment(a.id, context, 0), absl::OkStatus());
  ASSERT_EQ(PutSegment(b.id, context, 0), absl::OkStatus());
  auto first = store_->SealSegment(a.id, 0, context.SegmentTokens(0));
  auto second = store_->SealSegment(b.id, 0, context.SegmentTokens(0));
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_FALSE(first->already_held);
  EXPECT_TRUE(second->already_held);
  EXPECT_EQ(first->id, second->id);
  EXPECT_EQ(store_->Occupancy().segments, 1);
  EXPECT_EQ(store_->Occupancy().open_segments, 0);
  EXPECT_EQ(store_->Occupancy().dram_bytes, SealedBytes());
  // Again, as when the answer was lost.
  EXPECT_TRUE(
      store_->SealSegment(a.id, 0, context.SegmentTokens(0))->already_held);
}

TEST_F(StoreTest, SealRefusesWhatIsNotThePrompt) {
  TestContext context(4, 2);
  TestContext other(5, 2);
  NewSession session = Open(context);
  auto seal = [&](int segment, std::span<const uint32_t> tokens) {
    return store_->SealSegment(session.id, segment, tokens).status();
  };
  EXPECT_TRUE(absl::IsFailedPrecondition(seal(0, context.SegmentTokens(0))));
  ASSERT_EQ(PutSegment(session.id, context, 0), absl::OkStatus());
  ASSERT_EQ(PutSegment(session.id, context, 1), absl::OkStatus());
  EXPECT_TRUE(absl::IsFailedPrecondition(seal(1, context.SegmentTokens(1))));
  EXPECT_TRUE(absl::IsInvalidArgument(seal(0, other.SegmentTokens(0))));
  EXPECT_TRUE(absl::IsInvalidArgument(
      seal(0, context.SegmentTokens(0).first(255))));
  EXPECT_TRUE(absl::IsFailedPrecondition(seal(9, context.SegmentTokens(0))));
  EXPECT_EQ(seal(0, context.SegmentTokens(0)), absl::OkStatus());
  EXPECT_TRUE(absl::IsNotFound(
      store_->SealSegment(session.id + 1, 0, context.SegmentTokens(0))
          .status()));
}

TEST_F(StoreTest, PutRefusesNonsense) {
  TestContext context(6, 1);
  NewSession session = Open(context);
  SessionSnapshot snapshot = *store_->Snapshot(session.id);
  std::vector<std::byte> one = context.PutPayload(0, 0, 1);
  auto put = [&](uint32_t layer, uint32_t first, uint32_t count) {
    return store_->PutBlocks(snapshot, layer, first, count, one);
  };
  EXPECT_TRUE(absl::IsInvalidArgument(put(2, 0, 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(put(0, 0, 0)));
  EXPECT_TRUE(absl::IsInvalidArgument(put(0, 0, 2)));
  EXPECT_TRUE(absl::IsInvalidArgument(put(0, kContextBlocksMax, 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(put(0, UINT32_MAX, 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(put(0, 1, UINT32_MAX)));
  EXPECT_EQ(put(0, 0, 1), absl::OkStatus());
  ASSERT_EQ(PutAndSeal(session.id, context, 0), absl::OkStatus());
  EXPECT_TRUE(absl::IsFailedPrecondition(Put(session.id, context, 0, 0, 1)));
}

TEST_F(StoreTest, EvictsTheLeastRecentlyUsedToMakeRoom) {
  MakeStore(4 * SealedBytes());
  TestContext a(7, 2), b(8, 1), c(9, 2);
  Fill(a);
  Fill(b);
  NewSession reader = Open(a);  // uses a, which b is now older than
  store_->CloseSession(reader.id);
  Fill(c);
  EXPECT_EQ(Cached(b), 0);
  EXPECT_EQ(Cached(a), 2 * 256);
  EXPECT_EQ(Cached(c), 2 * 256);
  EXPECT_EQ(store_->metrics().segments_evicted->Value(), 1);
  EXPECT_LE(store_->Occupancy().dram_bytes, 4 * SealedBytes());
  // A child goes before its parent.
  Fill(TestContext(10, 1));
  EXPECT_EQ(Cached(a), 256);
}

TEST_F(StoreTest, PinnedStayAndThenItIsFull) {
  MakeStore(3 * SealedBytes());
  TestContext a(11, 3), b(12, 1);
  NewSession session = Open(a);
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(PutAndSeal(session.id, a, i), absl::OkStatus());
  }
  NewSession other = Open(b);
  absl::Status status = Put(other.id, b, 0, 0, 1);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_EQ(Cached(a), 3 * 256);
  store_->CloseSession(session.id);
  EXPECT_EQ(Put(other.id, b, 0, 0, 1), absl::OkStatus());
  EXPECT_EQ(Cached(a), 2 * 256);
}

TEST_F(StoreTest, ClosedSessionsGiveBackWhatIsOpen) {
  TestContext context(13, 2);
  NewSession session = Open(context);
  ASSERT_EQ(PutSegment(session.id, context, 0), absl::OkStatus());
  EXPECT_GT(store_->Occupancy().dram_bytes, 0);
  EXPECT_EQ(store_->Occupancy().open_segments, 1);
  store_->CloseSession(session.id);
  store_->CloseSession(session.id);
  EXPECT_EQ(store_->Occupancy().dram_bytes, 0);
  EXPECT_EQ(store_->Occupancy().open_segments, 0);
}

TEST_F(StoreTest, SessionsAreBoundedAndExpire) {
  TestContext context(14, 1);
  NewSession first = Open(context);
  for (int i = 1; i < 8; ++i) Open(context);
  EXPECT_TRUE(absl::IsResourceExhausted(
      store_->OpenSession(TestModel(), context.tokens(), "").status()));
  clock_.Advance(kSessionIdleTimeout / 2);
  EXPECT_TRUE(store_->Authorize(first.id, first.key).ok());  // a use
  clock_.Advance(kSessionIdleTimeout / 2 + 1);
  EXPECT_EQ(store_->ExpireIdle(), 7);
  EXPECT_TRUE(store_->Authorize(first.id, first.key).ok());
  clock_.Advance(kSessionIdleTimeout + 1);
  // Over even before the sweep.
  EXPECT_TRUE(absl::IsUnauthenticated(
      store_->Authorize(first.id, first.key).status()));
  EXPECT_EQ(store_->ExpireIdle(), 1);
  EXPECT_EQ(store_->metrics().sessions_expired->Value(), 8);
}

TEST_F(StoreTest, DamagedSegmentComesBackByAnotherSession) {
  TestContext context(15, 2);
  Fill(context);
  NewSession reader = Open(context);
  ASSERT_EQ(store_->CorruptBlock(reader.id, 0, 0, 3, false, 5),
            absl::OkStatus());
  Gatherer gatherer;
  std::vector<std::byte> payload(kPushBytesMax);
  SessionSnapshot snapshot = *store_->Snapshot(reader.id);
  PackedPush push = store_->Gather(
      snapshot, AllEntries(kTestGeometry, 4), &gatherer, payload);
  EXPECT_EQ(push.lost, 1);
  EXPECT_EQ(push.blocks, 7);
  EXPECT_EQ(Cached(context), 0);
  // Sessions that hold it go on; its damaged block never comes.
  push = store_->Gather(snapshot, AllEntries(kTestGeometry, 4), &gatherer,
                        payload);
  EXPECT_EQ(push.lost, 1);
  EXPECT_EQ(store_->metrics().segments_dropped->Value(), 1);
  // The first segment put again, the second is found behind it.
  NewSession writer = Open(context);
  ASSERT_EQ(PutAndSeal(writer.id, context, 0), absl::OkStatus());
  EXPECT_EQ(Cached(context), 2 * 256);
  store_->CloseSession(reader.id);
  EXPECT_EQ(Cached(context), 2 * 256);
}

// Many sessions at once, in an arena that is too small for all.
TEST_F(StoreTest, ThreadsShareIt) {
  MakeStore(6 * SealedBytes());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t] {
      Gatherer gatherer;
      std::vector<std::byte> payload(kPushBytesMax);
      for (int round = 0; round < 10; ++round) {
        TestContext context(100 + (t + round) % 5, 2);
        NewSession session = Open(context);
        for (int i = session.cached_tokens / 256; i < 2; ++i) {
          absl::Status status = PutAndSeal(session.id, context, i);
          ASSERT_TRUE(status.ok() || absl::IsResourceExhausted(status))
              << status;
          if (!status.ok()) break;
        }
        auto entries = AllEntries(kTestGeometry, 32);
        for (wire::FetchEntry& entry : entries) entry.layer = 1;
        PackedPush push =
            store_->Gather(*store_->Snapshot(session.id), entries, &gatherer,
                           payload);
        ASSERT_EQ(push.lost, 0);
        store_->CloseSession(session.id);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(store_->Occupancy().dram_bytes, 6 * SealedBytes());
  EXPECT_EQ(store_->Occupancy().sessions, 0);
}

}  // namespace
}  // namespace forecache
