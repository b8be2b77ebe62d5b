// Puts that race, readers under pressure, and puts that were given up.
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/kvstore/store_fixture.h"

namespace forecache {
namespace {

class LeaseTest : public StoreFixture {
 protected:
  // What a session reads of block 0 of layer 0, KV head 0.
  std::vector<std::byte> KeyOf(const NewSession& session) {
    auto snapshot = store_->Snapshot(session.id);
    FC_CHECK_OK(snapshot.status());
    std::vector<std::byte> payload(kPushBytesMax);
    Gatherer gatherer;
    const wire::FetchEntry entry;
    const PackedPush push = store_->Gather(*snapshot, std::span(&entry, 1),
                                           &gatherer, payload);
    FC_CHECK(push.blocks == 1) << "lost " << push.lost;
    const auto key =
        std::span(payload).subspan(push.table_bytes, kTestGeometry.PartBytes());
    return {key.begin(), key.end()};
  }
  static bool Same(ByteView a, ByteView b) { return std::ranges::equal(a, b); }
};

// Two put other bytes for the same block: one of them, and only one, is told
// that it won, and its bytes are what is read.
TEST_F(LeaseTest, APutThatLosesARaceSaysSo) {
  for (uint64_t round = 0; round < 50; ++round) {
    const TestContext contexts[2] = {{2 * round + 1, 1}, {2 * round + 2, 1}};
    const NewSession session = Open(contexts[0]);
    std::atomic<int> ready{0};
    absl::Status said[2];
    std::thread putters[2];
    for (int i : {0, 1}) {
      putters[i] = std::thread([&, i] {
        auto snapshot = store_->Snapshot(session.id);
        const auto payload = contexts[i].PutPayload(0, 0, 1);
        ++ready;
        while (ready < 2) {
        }
        do {
          said[i] = store_->PutBlocks(*snapshot, 0, 0, 1, payload);
        } while (absl::IsAborted(said[i]));  // IN_PROGRESS: to be put again
      });
    }
    for (std::thread& putter : putters) putter.join();
    ASSERT_NE(said[0].ok(), said[1].ok()) << said[0] << ", " << said[1];
    const int winner = said[0].ok() ? 0 : 1;
    EXPECT_TRUE(absl::IsAlreadyExists(said[1 - winner]));
    EXPECT_TRUE(Same(KeyOf(session), contexts[winner].Part(0, 0, 0, false)));
    store_->CloseSession(session.id);
  }
}

// The same for a whole segment: both seal it, and one copy is kept.
TEST_F(LeaseTest, OfTwoSealsOneIsToldThatItWasHeld) {
  for (uint64_t round = 0; round < 20; ++round) {
    const TestContext context(100 + round, 1);
    const NewSession sessions[2] = {Open(context), Open(context)};
    absl::StatusOr<SealResult> sealed[2];
    std::thread sealers[2];
    for (int i : {0, 1}) {
      ASSERT_EQ(PutSegment(sessions[i].id, context, 0), absl::OkStatus());
      sealers[i] = std::thread([&, i] {
        do {
          sealed[i] = store_->SealSegment(sessions[i].id, 0,
                                          context.SegmentTokens(0));
        } while (absl::IsAborted(sealed[i].status()));
      });
    }
    for (std::thread& sealer : sealers) sealer.join();
    ASSERT_TRUE(sealed[0].ok() && sealed[1].ok());
    EXPECT_NE(sealed[0]->already_held, sealed[1]->already_held);
    for (const NewSession& session : sessions) {
      EXPECT_TRUE(Same(KeyOf(session), context.Part(0, 0, 0, false)));
      store_->CloseSession(session.id);
    }
    EXPECT_EQ(Cached(context), kSegmentTokens);
  }
}

TEST_F(LeaseTest, AReaderKeepsWhatItReadsWhateverElseMustGo) {
  const TestContext read(1, 4);
  Fill(read);
  const NewSession reader = Open(read);
  ASSERT_EQ(reader.cached_tokens, 4 * kSegmentTokens);
  for (uint64_t i = 0; i < 60; ++i) {
    clock_.Advance(kSecond);
    ASSERT_NO_FATAL_FAILURE(Fill(TestContext(100 + i, 4)));
    ASSERT_TRUE(store_->Authorize(reader.id, reader.key).ok());
  }
  EXPECT_GT(store_->metrics().segments_evicted->Value(), 100);
  EXPECT_TRUE(Same(KeyOf(reader), read.Part(0, 0, 0, false)));
  // The lease is over by the monotonic clock, then its segments may go.
  clock_.Advance(kSessionIdleTimeout + 1);
  EXPECT_TRUE(absl::IsUnauthenticated(
      store_->Authorize(reader.id, reader.key).status()));
  EXPECT_EQ(store_->ExpireIdle(), 1);
  for (uint64_t i = 0; i < 60; ++i) {
    clock_.Advance(kSecond);
    ASSERT_NO_FATAL_FAILURE(Fill(TestContext(200 + i, 4)));
  }
  EXPECT_EQ(Cached(read), 0);
}

// Asking whether something is there neither keeps it nor makes it younger.
TEST_F(LeaseTest, ProbesOfExistenceDoNotStopEviction) {
  StoreOptions options;
  options.dram_bytes = 24 * SealedBytes();
  options.eviction = "lru";
  store_ = nullptr;
  metrics_ = std::make_unique<Metrics>();
  store_ = *StoreCore::Create(options, &clock_, metrics_.get());
  const TestContext asked(1, 4);
  Fill(asked);
  std::atomic<bool> stop{false};
  std::atomic<int> probes{0};
  std::thread prober([&] {
    while (!stop) {
      Cached(asked);
      ++probes;
    }
  });
  while (probes < 10) std::this_thread::yield();
  for (uint64_t i = 0; i < 10; ++i) Fill(TestContext(100 + i, 4));
  stop = true;
  prober.join();
  EXPECT_EQ(Cached(asked), 0);
  EXPECT_GE(store_->metrics().segments_evicted->Value(), 4);
}

// A put that was given up: its memory comes back, and bytes that come late
// are refused, though the sender has all that it once needed.
TEST_F(LeaseTest, AbandonedPutsAreReclaimedAndLateBytesRefused) {
  const TestContext context(1, 2);
  const NewSession session = Open(context);
  ASSERT_EQ(Put(session.id, context, 0, 0, 16), absl::OkStatus());
  auto late = store_->Authorize(session.id, session.key);
  ASSERT_TRUE(late.ok());
  EXPECT_GT(store_->Occupancy().dram_bytes, 0);
  clock_.Advance(kSessionIdleTimeout + 1);
  EXPECT_EQ(store_->ExpireIdle(), 1);
  // Into the segment that it had opened, and into one that it had not.
  for (int first : {0, 16}) {
    const absl::Status put = store_->PutBlocks(
        *late, 1, first, 1, context.PutPayload(1, first, 1));
    EXPECT_TRUE(absl::IsNotFound(put)) << put;
  }
  *late = {};
  EXPECT_EQ(store_->Occupancy().dram_bytes, 0);
  // The next session of the same prompt is another: nothing of it is there.
  const NewSession next = Open(context);
  EXPECT_NE(next.id, session.id);
  EXPECT_EQ(next.cached_tokens, 0);
  EXPECT_TRUE(absl::IsUnauthenticated(
      store_->Authorize(next.id, session.key).status()));
}

}  // namespace
}  // namespace forecache
