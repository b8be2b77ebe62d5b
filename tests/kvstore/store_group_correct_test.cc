// Corrections of several stores as if they were one.
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <utility>
#include <vector>

#include "tests/kvstore/correction_fixture.h"
#include "tests/kvstore/group_fixture.h"

namespace forecache {
namespace {

constexpr int kSegments = 12;
constexpr int kBlocks = kSegments * kSegmentBlocks;

class StoreGroupCorrectTest : public GroupFixture {
 protected:
  absl::Status Correct(const SessionHandle& session,
                       TestCorrection& correction, CorrectSink* sink) {
    return Await([&](StoreGroup::Done done) {
      return group_->Correct(session, correction.Request(), sink,
                             std::move(done))
          .status();
    });
  }
};

TEST_F(StoreGroupCorrectTest, CorrectionsShareTheSlots) {
  TestContext context(12, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  TestCorrection correction(context.geometry(), kBlocks, 6);
  correction.request.wants_scores = true;
  KeepingCorrectSink sink;
  ASSERT_EQ(Correct(session, correction, &sink), absl::OkStatus());
  EXPECT_EQ(sink.answered.size(), 12u);
  EXPECT_EQ(sink.blocks.size(), 12u);
  EXPECT_EQ(sink.replies, 1);
  EXPECT_EQ(sink.heads[0].used, 6u);
  for (const auto& [slot, block] : sink.blocks) {
    EXPECT_TRUE(std::ranges::equal(
        block.k, context.Part(0, block.entry.kv_head, block.entry.block,
                              false)));
  }
  const Scores scores =
      Probe(session, 0, kBlocks, correction.q, correction.request.scale);
  ASSERT_EQ(scores.lse.size(), sink.lse.size());
  for (size_t i = 0; i < scores.lse.size(); ++i) {
    EXPECT_NEAR(scores.lse[i], sink.lse[i], 1e-4f);
  }
  EXPECT_EQ(scores.log_probability, sink.scores);
  EXPECT_TRUE(sink.tail_lse.empty());
}

// Each store has attended to its own part.
TEST_F(StoreGroupCorrectTest, TailsAreMerged) {
  TestContext context(12, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  TestCorrection correction(context.geometry(), kBlocks, 0);
  correction.request.wants_tail = true;
  KeepingCorrectSink sink;
  ASSERT_EQ(Correct(session, correction, &sink), absl::OkStatus());
  std::set<int> all;
  for (int block = 0; block < kBlocks; ++block) all.insert(block);
  const ExactTail want(context, correction.Request(), 1, 1, all);
  const size_t d = want.key.size();
  ASSERT_EQ(sink.tail_key.size(), 4 * d);
  EXPECT_NEAR(sink.tail_lse[3], want.lse, 0.05);
  for (size_t c = 0; c < d; ++c) {
    EXPECT_NEAR(sink.tail_value[3 * d + c], want.value[c], 0.05);
  }
}

TEST_F(StoreGroupCorrectTest, ACorrectionWithoutAStoreIsCounted) {
  TestContext context(12, kSegments);
  const SessionHandle session = Open(context).handle;
  ASSERT_EQ(PutAll(session, context), absl::OkStatus());
  const int dead = sessions_->Find(session.id, 0).member;
  stores_[dead]->Kill();
  ASSERT_TRUE(Until([&] { return !lost_.empty(); }));
  const int its = Spread(session, kSegments)[dead] * kSegmentBlocks;
  TestCorrection correction(context.geometry(), kBlocks, 6);
  KeepingCorrectSink sink;
  ASSERT_EQ(Correct(session, correction, &sink), absl::OkStatus());
  EXPECT_EQ(sink.answered.size(), 12u);
  EXPECT_EQ(sink.blocks.size(), its == kBlocks ? 0u : 12u);
  EXPECT_EQ(group_->group_counters().probes_partial, 1u);
}

}  // namespace
}  // namespace forecache
