// Several stores as if they were one: placement, merges, and losses.
#include <gtest/gtest.h>
#include <malloc.h>

#include <cmath>
#include <vector>

#include "kvstore/client/probe_merge.h"
#include "tests/kvstore/group_fixture.h"

namespace forecache {
namespace {

constexpr int kSegments = 12;
constexpr int kBlocks = kSegments * kSegmentBlocks;

std::vector<float> Query(uint64_t seed) {
  Rng rng(seed);
  std::vector<float> q(2 * 2 * 32);
  for (float& x : q) x = rng.Normal();
  return q;
}

const float kScale = 1 / std::sqrt(32.0f);

class StoreGroupTest : public GroupFixture {};

TEST_F(StoreGroupTest, PutsAreSpreadAndFetchesBringThemAll) {
  TestContext context(1, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  for (int segments : Spread(session, kSegments)) EXPECT_GT(segments, 0);
  KeepingSink sink;
  ASSERT_EQ(Fetch(session, 1, AllEntries(context.geometry(), kBlocks), &sink),
            absl::OkStatus());
  EXPECT_EQ(sink.blocks.size(), 2 * kBlocks);
  EXPECT_TRUE(sink.failed.empty());
  for (int block = 0; block < kBlocks; ++block) {
    ExpectBlock(sink, context, 1, block % 2, block);
  }
  EXPECT_EQ(group_->counters().blocks_put, 2 * 2 * kBlocks);
  EXPECT_EQ(group_->counters().blocks_received, 2 * kBlocks);
  EXPECT_EQ(group_->requests_in_flight(), 0);
}

TEST_F(StoreGroupTest, OneFetchMayBeOfManyLayers) {
  TestContext context(17, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  std::vector<wire::FetchEntry> entries;
  for (uint32_t block = 0; block < kBlocks; ++block) {
    entries.push_back({.block = block, .slot = block});
    entries.back().layer = block % 2;
  }
  struct : KeepingSink {
    void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
                 ByteView v) override {
      EXPECT_EQ(layer, int(entry.block % 2));
      KeepingSink::OnBlock(layer, entry, k, v);
    }
  } sink;
  ASSERT_EQ(Await([&](StoreGroup::Done done) {
              return group_->FetchLayers(session, entries, &sink,
                                         std::move(done))
                  .status();
            }),
            absl::OkStatus());
  EXPECT_EQ(sink.blocks.size(), kBlocks);
  for (int block = 0; block < kBlocks; ++block) {
    ExpectBlock(sink, context, block % 2, 0, block);
  }
}

TEST_F(StoreGroupTest, ThePrefixIsTheLeadingRunOfTheUnion) {
  TestContext context(2, kSegments);
  SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  SealAll(session, context);
  EXPECT_EQ(Open(context).cached_tokens, kSegments * kSegmentTokens);
  // Without the store of a segment, all before it is the prefix.
  const int lost = sessions_->Find(session.id, 5).member;
  int first = 0;
  while (sessions_->Find(session.id, first).member != lost) ++first;
  stores_[lost]->Revive();
  ASSERT_EQ(Connect(lost), absl::OkStatus());
  const OpenedSession again = Open(context);
  EXPECT_EQ(again.cached_tokens, first * kSegmentTokens);
  // What others hold behind the gap is not put again.
  const uint64_t before = group_->counters().blocks_put;
  ASSERT_EQ(PutAll(again.handle, context), absl::OkStatus());
  const uint64_t put = group_->counters().blocks_put - before;
  EXPECT_EQ(put, 4u * kSegmentBlocks * Spread(session, kSegments)[lost]);
  SealAll(again.handle, context);
  EXPECT_EQ(Open(context).cached_tokens, kSegments * kSegmentTokens);
}

TEST_F(StoreGroupTest, MergedScoresAreThoseOfOneStore) {
  TestContext context(3, kSegments);
  const SessionHandle spread = Open(context).handle;
  ASSERT_EQ(PutAll(spread, context), absl::OkStatus());
  const std::vector<float> q = Query(4);
  const int counts[] = {kBlocks, kBlocks - 5, 20, 3};
  std::vector<Scores> merged;
  for (int blocks : counts) {
    merged.push_back(Probe(spread, 1, blocks, q, kScale));
  }
  EXPECT_EQ(group_->group_counters().probes_partial, 0u);
  Make(1);
  const SessionHandle whole = OpenAt(0, context)->handle;
  ASSERT_EQ(PutAll(whole, context), absl::OkStatus());
  for (size_t i = 0; i < merged.size(); ++i) {
    const Scores one = Probe(whole, 1, counts[i], q, kScale);
    ASSERT_EQ(merged[i].status, absl::OkStatus());
    ASSERT_EQ(one.log_probability.size(), merged[i].log_probability.size());
    for (size_t j = 0; j < one.lse.size(); ++j) {
      EXPECT_NEAR(one.lse[j], merged[i].lse[j], 1e-4f);
    }
    for (size_t j = 0; j < one.log_probability.size(); ++j) {
      // Two roundings to f16 instead of one.
      EXPECT_NEAR(one.log_probability[j], merged[i].log_probability[j], 8e-3f);
    }
  }
}

TEST(ProbeMergeTest, ShiftsAsTheSlowWayDoes) {
  for (const float shift : {0.0f, -0.001f, -0.7f, -20.0f, -70000.0f}) {
    std::vector<uint16_t> in, out;
    for (uint32_t bits = 0x8000; bits <= 0xFC00; ++bits) in.push_back(bits);
    out = in;
    ShiftScores(shift, static_cast<int>(out.size()), out.data());
    for (size_t i = 0; i < in.size(); ++i) {
      ASSERT_EQ(F16ToFloat(out[i]),
                F16ToFloat(FloatToF16(F16ToFloat(in[i]) + shift)))
          << in[i] << " shifted by " << shift;
    }
  }
}

TEST_F(StoreGroupTest, ADeadStoreCostsItsBlocks) {
  TestContext context(5, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  const int dead = sessions_->Find(session.id, 3).member;
  const int its = Spread(session, kSegments)[dead] * kSegmentBlocks;
  stores_[dead]->Kill();
  ASSERT_TRUE(Until([&] { return !lost_.empty(); }));
  EXPECT_EQ(lost_, (std::vector<int>{dead}));
  KeepingSink sink;
  ASSERT_EQ(Fetch(session, 0, AllEntries(context.geometry(), kBlocks), &sink),
            absl::OkStatus());
  EXPECT_EQ(sink.failed.size(), 2 * its);
  EXPECT_EQ(sink.blocks.size(), 2 * (kBlocks - its));
  for (const auto& [at, why] : sink.failed) {
    EXPECT_TRUE(absl::IsUnavailable(why)) << why;
  }
  EXPECT_EQ(group_->group_counters().blocks_unavailable, 2 * its);
  const Scores scores = Probe(session, 0, kBlocks, Query(6), kScale);
  ASSERT_EQ(scores.status, absl::OkStatus());
  for (int block = 0; block < kBlocks; ++block) {
    const bool is_lost =
        sessions_->Find(session.id, block / kSegmentBlocks).member == dead;
    EXPECT_EQ(scores.log_probability[block] == -INFINITY, is_lost) << block;
  }
  EXPECT_EQ(group_->group_counters().probes_partial, 1u);
}

TEST_F(StoreGroupTest, NewBlocksGoElsewhereWhenTheirStoreIsDead) {
  TestContext context(7, kSegments);
  const SessionHandle session = Open(context).handle;
  stores_[1]->Kill();
  // Not heard of yet: the puts find out.
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  EXPECT_EQ(Spread(session, kSegments)[1], 0);
  KeepingSink sink;
  ASSERT_EQ(Fetch(session, 1, AllEntries(context.geometry(), kBlocks), &sink),
            absl::OkStatus());
  EXPECT_EQ(sink.blocks.size(), 2 * kBlocks);
}

TEST_F(StoreGroupTest, ASlowStoreIsNotWaitedForLong) {
  TestContext context(8, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  const int slow = sessions_->Find(session.id, 0).member;
  stores_[slow]->plane->Stop();
  bool ended = false;
  const auto probe = [&] {
    ended = false;
    return group_->Probe(session, 0, kBlocks, kScale, Query(9),
                         [&](const absl::StatusOr<ProbeResult>& result) {
                           EXPECT_TRUE(result.ok());
                           ended = true;
                         }).status();
  };
  ASSERT_EQ(probe(), absl::OkStatus());
  for (int i = 0; i < 20; ++i) group_->Progress();
  EXPECT_FALSE(ended);
  const Nanos wait = ProbeShardWait(kTestGeometry, kBlocks);
  clock_.Advance(wait - 1);
  for (int i = 0; i < 20; ++i) group_->Progress();
  EXPECT_FALSE(ended);
  clock_.Advance(1);
  EXPECT_TRUE(Until([&] { return ended; }));
  // From then on it is not waited for, until it answers.
  ASSERT_EQ(probe(), absl::OkStatus());
  EXPECT_TRUE(Until([&] { return ended; }));
  EXPECT_EQ(group_->group_counters().probes_partial, 2u);
  ASSERT_TRUE(Until([&] {
    stores_[slow]->plane->RunOnce();
    return group_->requests_in_flight() == 0;
  }));
  ASSERT_EQ(probe(), absl::OkStatus());
  EXPECT_TRUE(Until([&] {
    stores_[slow]->plane->RunOnce();
    return ended;
  }));
  EXPECT_EQ(group_->group_counters().probes_partial, 2u);
}

TEST(ProbeShardWaitTest, GrowsWithWhatIsScanned) {
  const KvGeometry geometry = {.layers = 32, .kv_heads = 8, .head_dim = 128,
                               .group = 4};
  EXPECT_LT(ProbeShardWait(geometry, 1), kProbeShardWait + kMillisecond);
  // 128K tokens: 268 MB of keys.
  EXPECT_NEAR(ProbeShardWait(geometry, 8192), 117 * kMillisecond,
              kMillisecond);
}

TEST_F(StoreGroupTest, ASilentStoresFetchesAreGivenUp) {
  TestContext context(10, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  const int silent = sessions_->Find(session.id, 0).member;
  stores_[silent]->plane->Stop();
  KeepingSink sink;
  bool ended = false;
  ASSERT_EQ(group_
                ->Fetch(session, 0, AllEntries(context.geometry(), kBlocks),
                        &sink, [&](const absl::Status& end) { ended = true; })
                .status(),
            absl::OkStatus());
  const int its = Spread(session, kSegments)[silent] * kSegmentBlocks;
  ASSERT_TRUE(Until(
      [&] { return sink.blocks.size() == size_t(2 * (kBlocks - its)); }));
  EXPECT_FALSE(ended);
  EXPECT_TRUE(group_->IsUp(silent));
  for (Nanos waited = 0; waited <= kStoreSilence;
       waited += kStoreCheckInterval) {
    clock_.Advance(kStoreCheckInterval);
    group_->Progress();
  }
  EXPECT_TRUE(Until([&] { return ended; }));
  EXPECT_FALSE(group_->IsUp(silent));
  EXPECT_EQ(lost_, (std::vector<int>{silent}));
  EXPECT_EQ(sink.failed.size(), 2 * its);
}

TEST_F(StoreGroupTest, WhoDidNotListenCallsNobodySilent) {
  TestContext context(13, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  clock_.Advance(3 * kStoreSilence);  // the worker slept
  KeepingSink sink;
  bool ended = false;
  ASSERT_EQ(group_
                ->Fetch(session, 0, AllEntries(context.geometry(), kBlocks),
                        &sink, [&](const absl::Status& end) { ended = true; })
                .status(),
            absl::OkStatus());
  ASSERT_TRUE(Until([&] { return ended; }));
  EXPECT_TRUE(lost_.empty());
  EXPECT_EQ(sink.blocks.size(), size_t(2 * kBlocks));
}

TEST_F(StoreGroupTest, CancelledFetchesTellEachEntryOnce) {
  TestContext context(11, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  stores_[0]->Kill();
  ASSERT_TRUE(Until([&] { return !lost_.empty(); }));
  KeepingSink sink;
  absl::Status status;
  auto id = group_->Fetch(session, 0, AllEntries(context.geometry(), kBlocks),
                          &sink,
                          [&](const absl::Status& end) { status = end; });
  ASSERT_EQ(id.status(), absl::OkStatus());
  group_->Cancel(*id);
  EXPECT_TRUE(absl::IsCancelled(status)) << status;
  EXPECT_EQ(sink.failed.size(), 2 * kBlocks);
  for (int i = 0; i < 20; ++i) group_->Progress();
  EXPECT_TRUE(sink.blocks.empty());
}

TEST_F(StoreGroupTest, AStoreThatLostTheSessionIsTold) {
  TestContext context(13, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  const SegmentPlace place = sessions_->Find(session.id, 0);
  stores_[place.member]->core->CloseSession(place.handle.id);
  KeepingSink sink;
  ASSERT_EQ(Fetch(session, 0, AllEntries(context.geometry(), 1), &sink),
            absl::OkStatus());
  EXPECT_EQ(sink.failed.size(), 2u);
  EXPECT_FALSE(lost_.empty());
  // Opened again, what it lost is absent, and new blocks find it.
  ASSERT_TRUE(
      sessions_->Rejoin(session.id, place.member,
                        *OpenAt(place.member, context)));
  EXPECT_EQ(sessions_->Find(session.id, 0).member, -1);
  KeepingSink absent;
  ASSERT_EQ(Fetch(session, 0, AllEntries(context.geometry(), 1), &absent),
            absl::OkStatus());
  for (const auto& [at, why] : absent.failed) {
    EXPECT_TRUE(absl::IsNotFound(why)) << why;
  }
  ASSERT_EQ(Put(session, context, 0, 0, 1), absl::OkStatus());
  EXPECT_EQ(sessions_->Find(session.id, 0).member, place.member);
}

TEST_F(StoreGroupTest, AThousandReconnectsLeakNothing) {
  TestContext context(14, 3);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  const int m = sessions_->Find(session.id, 0).member;
  size_t before = 0;
  for (int i = 0; i < 1000; ++i) {
    // Settled after the first rounds, which fill caches.
    if (i == 100) before = mallinfo2().uordblks;
    if (i % 10 == 0) {
      stores_[m]->Reconnect();
    }
    ASSERT_EQ(Connect(m), absl::OkStatus()) << i;
    KeepingSink sink;  // the session is the one of before
    ASSERT_EQ(Fetch(session, 1, AllEntries(context.geometry(), 3), &sink),
              absl::OkStatus());
    ASSERT_EQ(sink.blocks.size(), 6u) << i;
  }
  EXPECT_EQ(group_->requests_in_flight(), 0);
  const size_t after = mallinfo2().uordblks;
  EXPECT_LT(after, before + 100'000) << "bytes after 900 reconnects";
}

TEST_F(StoreGroupTest, OneStoreKeepsItsErrors) {
  Make(1);
  TestContext context(15, 2);
  const SessionHandle session = OpenAt(0, context)->handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  stores_[0]->Kill();
  ASSERT_TRUE(Until([&] { return !lost_.empty(); }));
  EXPECT_TRUE(group_->IsHolding());
  clock_.Advance(kStoreRecovery);  // nobody brings it back
  EXPECT_FALSE(group_->IsHolding());
  KeepingSink sink;
  EXPECT_TRUE(absl::IsUnavailable(
      Fetch(session, 0, AllEntries(context.geometry(), 4), &sink)));
  EXPECT_TRUE(absl::IsUnavailable(Put(session, context, 0, 0, 1)));
  EXPECT_TRUE(absl::IsUnavailable(
      Probe(session, 0, 4, Query(16), kScale).status));
}

}  // namespace
}  // namespace forecache
