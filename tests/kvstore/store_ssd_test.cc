// A store with a tier on SSD: demotion, restart, damage, a full disk.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/kvstore/ssd_fixture.h"

namespace forecache {
namespace {

using StoreSsdTest = SsdStoreFixture;

TEST_F(StoreSsdTest, RestartFindsWhatWasWritten) {
  TestContext context(1, 3);
  Fill(context);
  RunAll();
  EXPECT_EQ(store_->Occupancy().ssd_segments, 3);
  Start();
  EXPECT_EQ(store_->Occupancy().dram_segments, 0);
  EXPECT_EQ(store_->Occupancy().segments, 3);
  EXPECT_EQ(Cached(context), 3 * kSegmentTokens);
  EXPECT_EQ(ReadBack(context), 3 * kSegmentTokens);
  EXPECT_EQ(store_->metrics().prefix_tokens_hit_ssd->Value(),
            3 * kSegmentTokens);
}

TEST_F(StoreSsdTest, WhatWasNotWrittenIsMissedAfterARestart) {
  TestContext context(2, 2);
  Fill(context);
  ASSERT_TRUE(store_->RunSsd());  // the first of two
  Start();
  EXPECT_EQ(ReadBack(context), kSegmentTokens);
}

TEST_F(StoreSsdTest, ProbesScoreSegmentsOnSsdByTheirCodes) {
  TestContext context(3, 2);
  Fill(context);
  RunAll();
  std::vector<float> q(context.geometry().kv_heads * context.geometry().group *
                       context.geometry().head_dim);
  Rng rng(1);
  for (float& value : q) value = rng.Normal();
  const ProbeRequest request{1, 32, 0.2f, q};
  auto scores = [&] {
    NewSession opened = Open(context);
    EXPECT_EQ(opened.cached_tokens, 512);
    SessionSnapshot session = *store_->Snapshot(opened.id);
    Prober prober(ProbeSource::kCodes);
    prober.ScanHead(session, request, 1);
    store_->CloseSession(opened.id);
    return prober.scores().block_max;
  };
  const std::vector<float> in_memory = scores();
  Start();
  EXPECT_EQ(scores(), in_memory);
}

TEST_F(StoreSsdTest, MemoryIsGivenUpForWhatIsOnSsd) {
  StoreOptions options = Options();
  options.dram_bytes = 3 * SealedBytes();
  Start(options);
  for (int i = 0; i < 8; ++i) Fill(TestContext(10 + i, 1));
  RunAll();
  EXPECT_EQ(store_->Occupancy().ssd_segments, 8);
  EXPECT_GE(store_->metrics().segments_demoted->Value(), 5);
  EXPECT_EQ(store_->metrics().segments_evicted->Value(), 0);
  for (int i = 0; i < 8; ++i) {
    EXPECT_EQ(ReadBack(TestContext(10 + i, 1)), kSegmentTokens) << i;
  }
}

TEST_F(StoreSsdTest, SessionsGoOnFromMemoryAfterAPromotion) {
  TestContext context(4, 2);
  Fill(context);
  RunAll();
  Start();
  NewSession opened = Open(context);
  EXPECT_FALSE((*store_->Snapshot(opened.id)->segments)[1].view
                   ->KeyPlane(0, 0).size() > 0);
  RunAll();
  EXPECT_EQ(store_->metrics().segments_promoted->Value(), 2);
  EXPECT_GT((*store_->Snapshot(opened.id)->segments)[1].view
                ->KeyPlane(0, 0).size(), 0);
  EXPECT_EQ(ReadBack(context), 2 * kSegmentTokens);
  EXPECT_EQ(store_->metrics().prefix_tokens_hit_dram->Value(), 512);
  store_->CloseSession(opened.id);
}

TEST_F(StoreSsdTest, AContextMayBeLargerThanMemory) {
  StoreOptions options = Options();
  options.dram_bytes = 5 * SealedBytes();
  Start(options);
  TestContext context(12, 12);
  NewSession session = Open(context);
  for (int i = 0; i < 12; ++i) {
    ASSERT_EQ(PutAndSeal(session.id, context, i), absl::OkStatus()) << i;
  }
  EXPECT_LE(store_->Occupancy().dram_segments, 4);
  // The session itself reads all of it, and all of it is scored.
  SessionSnapshot snapshot = *store_->Snapshot(session.id);
  Gatherer gatherer;
  std::vector<std::byte> payload(kPushBytesMax);
  const auto entries = AllEntries(context.geometry(), context.blocks());
  for (size_t next = 0; next < entries.size();) {
    PackedPush push = store_->Gather(
        snapshot, std::span(entries).subspan(next), &gatherer, payload);
    EXPECT_EQ(Refused(context, 0, push, payload), 0);
    next += push.entries;
  }
  std::vector<float> q(context.geometry().group * context.geometry().kv_heads *
                           context.geometry().head_dim,
                       0.1f);
  Prober prober(ProbeSource::kCodes);
  prober.ScanHead(snapshot, {0, context.blocks(), 0.2f, q}, 0);
  for (int block = 0; block < context.blocks(); ++block) {
    EXPECT_TRUE(std::isfinite(prober.scores().block_max[block])) << block;
  }
  snapshot = {};
  store_->CloseSession(session.id);
  EXPECT_EQ(ReadBack(context), 12 * kSegmentTokens);
}

TEST_F(StoreSsdTest, AFullSsdGivesUpChildrenBeforeParents) {
  StoreOptions options = Options();
  // 20 extents, and a segment of the test's geometry takes 3.
  options.ssd.tier.capacity_bytes =
      kSsdMetadataBytesMin + (size_t{64} << 10) + 20 * kExtentBytes;
  files_ = std::make_shared<MemoryFiles>();
  Start(options);
  std::vector<TestContext> contexts;
  for (int i = 0; i < 5; ++i) contexts.emplace_back(20 + i, 2);
  for (const TestContext& context : contexts) {
    Fill(context);
    RunAll();
    StoreOccupancy now = store_->Occupancy();
    EXPECT_LE(now.ssd_bytes + now.ssd_metadata_bytes, now.ssd_capacity_bytes);
  }
  EXPECT_GT(store_->metrics().ssd_segments_evicted->Value(), 0);
  const size_t kept = store_->Occupancy().ssd_segments;
  Start(options);
  // Nothing on SSD is out of reach for want of its parent.
  size_t reached = 0;
  for (const TestContext& context : contexts) {
    reached += Cached(context) / kSegmentTokens;
  }
  EXPECT_EQ(reached, kept);
}

TEST_F(StoreSsdTest, DamageOnSsdIsRefusedCountedAndDropped) {
  TestContext context(5, 2);
  Fill(context);
  RunAll();
  Start();
  NewSession opened = Open(context);
  ASSERT_EQ(opened.cached_tokens, 512);
  ASSERT_EQ(store_->CorruptBlock(opened.id, 1, 1, 3, true, 77),
            absl::OkStatus());
  store_->CloseSession(opened.id);
  EXPECT_EQ(ReadBack(context), -1);  // one block was refused
  EXPECT_EQ(store_->metrics().blocks_refused_read->Value(), 1);
  EXPECT_EQ(store_->metrics().segments_dropped->Value(), 1);
  EXPECT_EQ(Cached(context), 0);
  Start();
  EXPECT_EQ(Cached(context), 0);
  EXPECT_EQ(store_->Occupancy().ssd_segments, 1);
}

TEST_F(StoreSsdTest, TheScrubberFindsDamageThatNobodyReads) {
  TestContext context(6, 1), other(7, 1);
  Fill(context);
  Fill(other);
  RunAll();
  StoreOptions options = Options();
  options.ssd.scrub_bytes_per_second = size_t{64} << 20;
  Start(options);
  NewSession opened = Open(context);
  ASSERT_EQ(store_->CorruptBlock(opened.id, 0, 1, 9, false, 5),
            absl::OkStatus());
  store_->CloseSession(opened.id);
  for (int i = 0; i < 4; ++i) {
    RunAll();
    clock_.Advance(kSecond);
  }
  EXPECT_EQ(store_->metrics().scrub_findings->Value(), 1);
  EXPECT_GT(store_->metrics().scrubbed_bytes->Value(),
            2 * context.geometry().SegmentBytes());
  EXPECT_EQ(store_->Occupancy().ssd_segments, 1);
}

TEST_F(StoreSsdTest, SecondProcessIsRefused) {
  auto second = StoreCore::Create(Options(), &clock_, metrics_.get(),
                                  NewMemoryDisk(files_));
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(second.status().message().find("another process"),
            std::string::npos);
}

TEST_F(StoreSsdTest, NewerFormatIsRefusedByName) {
  store_ = nullptr;
  ASSERT_EQ(NewMemoryDisk(files_)->WriteFile("format",
                                             "forecache-ssd 3 65536 more\n"),
            absl::OkStatus());
  absl::Status status = TryStart(Options());
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_NE(status.message().find("version 3"), std::string::npos) << status;
}

TEST_F(StoreSsdTest, SmallerAndLargerBoundsAtRestart) {
  for (int i = 0; i < 20; ++i) {
    Fill(TestContext(30 + i, 1));
    RunAll();
  }
  EXPECT_EQ(store_->Occupancy().ssd_segments, 20);
  StoreOptions options = Options();
  options.dram_bytes = 2 * SealedBytes();
  options.ssd.tier.capacity_bytes =
      kSsdMetadataBytesMin + (size_t{64} << 10) + 31 * kExtentBytes;
  Start(options);
  EXPECT_EQ(store_->Occupancy().ssd_segments, 10);
  int right = 0;
  for (int i = 0; i < 20; ++i) {
    const int tokens = ReadBack(TestContext(30 + i, 1));
    EXPECT_GE(tokens, 0);
    right += tokens / kSegmentTokens;
  }
  EXPECT_EQ(right, 10);
  options.ssd.tier.capacity_bytes = size_t{32} << 20;
  Start(options);
  EXPECT_EQ(store_->Occupancy().ssd_segments, 10);
  for (int i = 0; i < 20; ++i) {
    Fill(TestContext(30 + i, 1));
    RunAll();
  }
  EXPECT_EQ(store_->Occupancy().ssd_segments, 20);
}

TEST_F(StoreSsdTest, ARestartKnowsWhatWasUsedLast) {
  StoreOptions options = Options();
  options.eviction = "lru";
  options.ssd.tier.capacity_bytes =
      kSsdMetadataBytesMin + (size_t{64} << 10) + 10 * kExtentBytes;
  files_ = std::make_shared<MemoryFiles>();
  Start(options);
  for (int i = 0; i < 3; ++i) Fill(TestContext(60 + i, 1));
  RunAll();
  EXPECT_EQ(store_->Occupancy().ssd_segments, 3);
  EXPECT_EQ(ReadBack(TestContext(60, 1)), kSegmentTokens);
  RunAll();
  Start(options);
  Fill(TestContext(63, 1));
  RunAll();
  Start(options);
  EXPECT_EQ(Cached(TestContext(60, 1)), kSegmentTokens);
  EXPECT_EQ(Cached(TestContext(61, 1)), 0);
  EXPECT_EQ(Cached(TestContext(62, 1)), kSegmentTokens);
}

TEST_F(StoreSsdTest, AFullDiskIsTriedAgainAndComesBack) {
  TestContext before(80, 1), meanwhile(81, 1), after(82, 1);
  Fill(before);
  RunAll();
  files_->FailSteps(files_->steps(), int64_t{1} << 40,
                    absl::ResourceExhaustedError("the disk is full"));
  Fill(meanwhile);
  RunAll();
  EXPECT_FALSE(store_->Occupancy().ssd_writable);
  // Served all the same, from SSD and from memory.
  EXPECT_EQ(ReadBack(before), kSegmentTokens);
  EXPECT_EQ(ReadBack(meanwhile), kSegmentTokens);
  // Each pause is twice the one before, up to a bound.
  Nanos pause = kSsdReviveWaitFirst;
  for (int tries = 1; tries <= 12; ++tries) {
    clock_.Advance(pause - 1);
    RunAll();
    EXPECT_EQ(store_->metrics().ssd_revivals_failed->Value(), tries - 1);
    clock_.Advance(1);
    RunAll();
    EXPECT_EQ(store_->metrics().ssd_revivals_failed->Value(), tries);
    pause = std::min(2 * pause, kSsdReviveWaitMost);
  }
  EXPECT_FALSE(store_->Occupancy().ssd_writable);
  files_->FailSteps(0, 0, absl::OkStatus());
  clock_.Advance(kSsdReviveWaitMost);
  RunAll();
  EXPECT_EQ(store_->metrics().ssd_revivals->Value(), 1);
  EXPECT_TRUE(store_->Occupancy().ssd_writable);
  Fill(after);
  RunAll();
  // With it what was sealed while the disk was full.
  EXPECT_EQ(store_->Occupancy().ssd_segments, 3);
  store_ = nullptr;
  files_->Crash(/*seed=*/0);
  Start();
  EXPECT_EQ(ReadBack(before), kSegmentTokens);
  EXPECT_EQ(ReadBack(meanwhile), kSegmentTokens);
  EXPECT_EQ(ReadBack(after), kSegmentTokens);
}

TEST_F(StoreSsdTest, MoreThanMayWaitIsWrittenLater) {
  StoreOptions options = Options();
  options.dram_bytes = (kSsdDemotionsMax + 20) * SealedBytes();
  options.ssd.tier.capacity_bytes = size_t{256} << 20;
  files_ = std::make_shared<MemoryFiles>();
  Start(options);
  constexpr int kMore = 3;
  for (int i = 0; i < int{kSsdDemotionsMax} + kMore; ++i) {
    Fill(TestContext(1000 + i, 1));
  }
  EXPECT_EQ(store_->metrics().demotions_deferred->Value(), kMore);
  EXPECT_TRUE(store_->FlushSsd(kSecond));
  EXPECT_EQ(store_->Occupancy().ssd_segments, kSsdDemotionsMax + kMore);
}

TEST_F(StoreSsdTest, SealTellsWhatIsDurable) {
  TestContext context(8, 1);
  NewSession a = Open(context);
  ASSERT_EQ(PutSegment(a.id, context, 0), absl::OkStatus());
  auto first = store_->SealSegment(a.id, 0, context.SegmentTokens(0));
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(first->durable);
  EXPECT_FALSE(store_->AwaitDurable(first->id));
  EXPECT_TRUE(store_->FlushSsd(kSecond));
  EXPECT_TRUE(store_->AwaitDurable(first->id));
  auto again = store_->SealSegment(a.id, 0, context.SegmentTokens(0));
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->durable);
}

TEST_F(StoreSsdTest, TheBackgroundThreadWritesAndIsWaitedFor) {
  StoreOptions options = Options();
  options.ssd.background = true;
  Start(options);
  TestContext context(9, 1);
  NewSession a = Open(context);
  ASSERT_EQ(PutSegment(a.id, context, 0), absl::OkStatus());
  auto sealed = store_->SealSegment(a.id, 0, context.SegmentTokens(0));
  ASSERT_TRUE(sealed.ok());
  EXPECT_TRUE(store_->AwaitDurable(sealed->id));
  store_->CloseSession(a.id);
  EXPECT_TRUE(store_->FlushSsd(kSecond));
}

}  // namespace
}  // namespace forecache
