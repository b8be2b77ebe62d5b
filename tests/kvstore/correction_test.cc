// Corrections over the loopback transport.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "tests/kvstore/correction_fixture.h"

namespace forecache {
namespace {

// The merged probabilities of one head, from a reply's scores and lse.
std::vector<float> Merged(const KeepingCorrectSink& sink, int head, int group,
                          int blocks, const std::vector<float>& local) {
  std::vector<float> merged(blocks);
  for (int g = 0; g < group; ++g) {
    const int row = head * group + g;
    // exp(score) is of the store's keys; with local keys all are rarer.
    float shift = 0;
    if (!local.empty()) {
      shift = std::log1p(std::exp(local[row] - sink.lse[row]));
    }
    for (int b = 0; b < blocks; ++b) {
      merged[b] += std::exp(sink.scores[row * blocks + b] - shift) / group;
    }
  }
  return merged;
}

// By the number of scan threads.
class CorrectionTest : public CorrectionFixture,
                       public ::testing::WithParamInterface<int> {
 protected:
  CorrectionTest() : context_(1, 3) {
    MakePlane({.scan_threads = GetParam()});
    opened_ = Open(context_);
    session_ = HandleOf(opened_, context_);
    FC_CHECK_OK(PutAndSeal(opened_.id, context_, 0));
    FC_CHECK_OK(PutAndSeal(opened_.id, context_, 1));
    FC_CHECK_OK(Put(opened_.id, context_, 1, 32, 5));
    FC_CHECK_OK(Connect());
  }

  // Whether heads, picks and masses are what the scores say.
  void Check(TestCorrection& correction, const KeepingCorrectSink& sink) {
    const CorrectRequest& request = correction.Request();
    ASSERT_EQ(sink.replies, 1);
    ASSERT_EQ(sink.answered.size(), correction.offered.size());
    ExpectBlocks(sink, context_, request.layer);
    uint32_t slot = 100;
    for (int head = 0; head < 2; ++head) {
      std::vector<float> merged =
          Merged(sink, head, 2, request.blocks, correction.local_lse);
      double mass = 0;
      for (int b = 0; b < request.blocks; ++b) {
        const size_t word =
            head * wire::ResidentWords(request.blocks) + b / 64;
        if (request.resident[word] >> (b % 64) & 1) merged[b] = 0;
        mass += merged[b];
      }
      const uint32_t used = sink.heads[head].used;
      float worst = 1;
      for (uint32_t i = 0; i < correction.slot_count[head]; ++i, ++slot) {
        EXPECT_EQ(sink.blocks.contains(slot), i < used);
        if (i >= used) {
          EXPECT_EQ(sink.returned.at(slot).second, absl::OkStatus());
          EXPECT_EQ(sink.returned.at(slot).first, head);
          continue;
        }
        const wire::PushEntry& entry = sink.blocks.at(slot).entry;
        EXPECT_EQ(entry.kv_head, head);
        EXPECT_GE(entry.block, request.first);
        EXPECT_LT(entry.block, request.end);
        EXPECT_GT(merged[entry.block], 0) << "resident, or twice";
        EXPECT_GE(merged[entry.block], request.threshold * 0.99f);
        worst = std::min(worst, merged[entry.block]);
        mass -= merged[entry.block];
        merged[entry.block] = 0;
      }
      const float left =
          request.first == request.end
              ? 0
              : *std::max_element(merged.begin() + request.first,
                                  merged.begin() + request.end);
      // The scores have 11 bits.
      EXPECT_NEAR(sink.heads[head].best_left, left, 0.01f * left + 1e-6f);
      EXPECT_NEAR(sink.heads[head].missing_mass, mass, 0.01 * mass + 1e-6);
      if (used > 0) { EXPECT_LE(left, worst * 1.01f); }
      if (used < correction.slot_count[head]) {
        EXPECT_LE(left, std::max(request.threshold * 1.01f, 1e-6f));
      }
    }
  }

  TestContext context_;
  NewSession opened_;
  SessionHandle session_;
};

TEST_P(CorrectionTest, TheBestMissingBlocksCome) {
  TestCorrection correction(kTestGeometry, 37, 4);
  correction.request.layer = 1;
  correction.request.wants_scores = true;
  correction.request.first = 1;
  correction.request.end = 35;
  for (int block : {0, 5, 20, 36}) correction.SetResident(1, block);
  KeepingCorrectSink sink;
  ASSERT_EQ(ClientCorrect(session_, correction, &sink), absl::OkStatus());
  EXPECT_EQ(sink.blocks.size(), 8);
  Check(correction, sink);
  EXPECT_EQ(client_->counters().corrections, 1);
  EXPECT_EQ(client_->counters().blocks_received, 8);
  EXPECT_EQ(store_->metrics().corrections->Value(), 1);
  EXPECT_EQ(client_->requests_in_flight(), 0);
}

TEST_P(CorrectionTest, ScoresAreAProbesScores) {
  TestCorrection correction(kTestGeometry, 37, 0);
  correction.request.layer = 1;
  correction.request.wants_scores = true;
  KeepingCorrectSink sink;
  ASSERT_EQ(ClientCorrect(session_, correction, &sink), absl::OkStatus());
  auto probe = ClientProbe(session_, 1, 37, correction.q,
                           correction.request.scale);
  ASSERT_EQ(probe.status(), absl::OkStatus());
  EXPECT_EQ(sink.lse, probe->first);
  EXPECT_EQ(sink.scores, probe->second);
  Check(correction, sink);
}

TEST_P(CorrectionTest, ThresholdHoldsBack) {
  TestCorrection correction(kTestGeometry, 37, 30);
  correction.request.layer = 1;
  correction.request.wants_scores = true;
  correction.request.threshold = 0.01f;
  correction.slot_count[1] = 3;
  correction.offered.resize(33);
  KeepingCorrectSink sink;
  ASSERT_EQ(ClientCorrect(session_, correction, &sink), absl::OkStatus());
  EXPECT_LT(sink.blocks.size(), 33);
  EXPECT_FALSE(sink.blocks.empty());
  Check(correction, sink);
  // One without scores brings the same.
  KeepingCorrectSink quiet;
  correction.request.wants_scores = false;
  ASSERT_EQ(ClientCorrect(session_, correction, &quiet), absl::OkStatus());
  EXPECT_TRUE(quiet.scores.empty());
  EXPECT_EQ(quiet.lse, sink.lse);
  EXPECT_EQ(quiet.blocks.size(), sink.blocks.size());
}

// Of sealed segments by codes, of the open one exactly; what is resident or
// pushed is not in it.
TEST_P(CorrectionTest, TheTailIsAttentionOverWhatIsLeftOut) {
  constexpr int kBlocks = 37;
  TestCorrection correction(kTestGeometry, kBlocks, 4);
  correction.request.layer = 1;
  correction.request.wants_tail = true;
  correction.request.wants_scores = true;
  for (int block : {0, 5, 20, 36}) correction.SetResident(1, block);
  KeepingCorrectSink sink;
  ASSERT_EQ(ClientCorrect(session_, correction, &sink), absl::OkStatus());
  ASSERT_EQ(sink.tail_lse.size(), 4u);
  for (int head = 0; head < 2; ++head) {
    std::set<int> left_out;
    for (int block = 0; block < kBlocks; ++block) left_out.insert(block);
    if (head == 1) {
      for (int block : {0, 5, 20, 36}) left_out.erase(block);
    }
    for (const auto& [slot, block] : sink.blocks) {
      if (block.entry.kv_head == head) left_out.erase(block.entry.block);
    }
    for (int g = 0; g < 2; ++g) {
      const ExactTail want(context_, correction.Request(), head, g, left_out);
      const size_t row = head * 2 + g;
      EXPECT_NEAR(sink.tail_lse[row], want.lse, 0.05) << row;
      for (size_t c = 0; c < want.key.size(); ++c) {
        const size_t i = row * want.key.size() + c;
        // Of blocks' mean keys, which lie a little nearer to zero.
        EXPECT_NEAR(sink.tail_key[i], want.key[c], 0.2) << row << " " << c;
        EXPECT_NEAR(sink.tail_value[i], want.value[c], 0.05) << row << " " << c;
      }
    }
  }
}

// What is only in an open segment is attended exactly.
TEST_P(CorrectionTest, TheTailOfOpenBlocksIsExact) {
  TestCorrection correction(kTestGeometry, 37, 0);
  correction.request.layer = 1;
  correction.request.wants_tail = true;
  std::set<int> left_out = {32, 33, 34, 35, 36};
  for (int head = 0; head < 2; ++head) {
    for (int block = 0; block < 32; ++block) {
      correction.SetResident(head, block);
    }
  }
  const auto check = [&] {
    KeepingCorrectSink sink;
    ASSERT_EQ(ClientCorrect(session_, correction, &sink), absl::OkStatus());
    const ExactTail want(context_, correction.Request(), 1, 0, left_out);
    ASSERT_EQ(sink.tail_lse.size(), 4u);
    EXPECT_NEAR(sink.tail_lse[2], want.lse, 1e-3);
    for (size_t c = 0; c < want.key.size(); ++c) {
      const size_t i = 2 * want.key.size() + c;
      EXPECT_NEAR(sink.tail_key[i], want.key[c], 2e-3);
      EXPECT_NEAR(sink.tail_value[i], want.value[c], 2e-3);
    }
  };
  check();
  // A block that is damaged weighs nothing.
  ASSERT_EQ(store_->CorruptBlock(opened_.id, 1, 1, 34, true, 9),
            absl::OkStatus());
  left_out.erase(34);
  check();
}

TEST_P(CorrectionTest, NothingLeftOutIsNoTail) {
  TestCorrection correction(kTestGeometry, 32, 0);
  correction.request.wants_tail = true;
  for (int head = 0; head < 2; ++head) {
    for (int block = 0; block < 32; ++block) {
      correction.SetResident(head, block);
    }
  }
  KeepingCorrectSink sink;
  ASSERT_EQ(ClientCorrect(session_, correction, &sink), absl::OkStatus());
  for (const float lse : sink.tail_lse) EXPECT_EQ(lse, -INFINITY);
  for (const float x : sink.tail_value) EXPECT_EQ(x, 0);
}

TEST_P(CorrectionTest, LocalKeysMakeAllElseRarer) {
  TestCorrection correction(kTestGeometry, 32, 2);
  correction.request.wants_scores = true;
  KeepingCorrectSink alone, beside;
  ASSERT_EQ(ClientCorrect(session_, correction, &alone), absl::OkStatus());
  correction.local_lse = alone.lse;  // as much again is local
  ASSERT_EQ(ClientCorrect(session_, correction, &beside), absl::OkStatus());
  Check(correction, beside);
  EXPECT_EQ(alone.lse, beside.lse);
  for (int head = 0; head < 2; ++head) {
    EXPECT_NEAR(beside.heads[head].missing_mass,
                alone.heads[head].missing_mass / 2, 1e-4);
  }
}

TEST_P(CorrectionTest, NothingIsWorthPushing) {
  TestCorrection correction(kTestGeometry, 32, 3);
  correction.request.wants_scores = true;
  for (int head = 0; head < 2; ++head) {
    for (int block = 0; block < 32; ++block) {
      correction.SetResident(head, block);
    }
  }
  KeepingCorrectSink sink;
  ASSERT_EQ(ClientCorrect(session_, correction, &sink), absl::OkStatus());
  EXPECT_TRUE(sink.blocks.empty());
  EXPECT_EQ(sink.heads[0].missing_mass, 0);
  Check(correction, sink);
}

TEST_P(CorrectionTest, DamagedBlockReturnsItsSlot) {
  TestCorrection correction(kTestGeometry, 32, 1);
  KeepingCorrectSink good;
  ASSERT_EQ(ClientCorrect(session_, correction, &good), absl::OkStatus());
  const uint32_t block = good.blocks.at(100).entry.block;
  ASSERT_EQ(store_->CorruptBlock(opened_.id, 0, 0, block, true, 9),
            absl::OkStatus());
  KeepingCorrectSink sink;
  ASSERT_EQ(ClientCorrect(session_, correction, &sink), absl::OkStatus());
  EXPECT_TRUE(absl::IsDataLoss(sink.returned.at(100).second));
  EXPECT_EQ(sink.blocks.size(), 1);
  ExpectBlocks(sink, context_, 0);
}

TEST_P(CorrectionTest, ManySlotsTakeManyPushes) {
  KvGeometry geometry = kTestGeometry;
  geometry.head_dim = 256;
  TestContext context(5, 4, geometry);
  NewSession opened = Open(context);
  SessionHandle session = HandleOf(opened, context);
  ASSERT_EQ(Put(opened.id, context, 0, 0, 64), absl::OkStatus());
  TestCorrection correction(geometry, 64, kCorrectionSlotsMax);
  KeepingCorrectSink sink;
  ASSERT_EQ(ClientCorrect(session, correction, &sink), absl::OkStatus());
  EXPECT_GT(sink.blocks.size(), 32);  // of 16 KiB each
  ExpectBlocks(sink, context, 0);
}

TEST_P(CorrectionTest, CancelReturnsTheSlots) {
  TestCorrection correction(kTestGeometry, 32, 3);
  KeepingCorrectSink sink;
  absl::Status ended;
  auto id = client_->Correct(session_, correction.Request(), &sink,
                             [&](const absl::Status& got) { ended = got; });
  ASSERT_TRUE(id.ok());
  client_->Cancel(*id);
  EXPECT_TRUE(absl::IsCancelled(ended));
  EXPECT_EQ(sink.returned.size(), 6);
  EXPECT_TRUE(absl::IsCancelled(sink.returned.at(100).second));
  KeepingCorrectSink next;
  EXPECT_EQ(ClientCorrect(session_, correction, &next), absl::OkStatus());
  EXPECT_TRUE(sink.blocks.empty());
}

TEST_P(CorrectionTest, SilenceReturnsTheSlotsAtTheDeadline) {
  plane_->Stop();
  TestCorrection correction(kTestGeometry, 32, 3);
  KeepingCorrectSink sink;
  absl::Status ended;
  ASSERT_TRUE(client_
                  ->Correct(session_, correction.Request(), &sink,
                            [&](const absl::Status& got) { ended = got; })
                  .ok());
  clock_.Advance(kRequestTimeout);
  client_->Progress();
  EXPECT_TRUE(absl::IsDeadlineExceeded(ended)) << ended;
  EXPECT_EQ(sink.returned.size(), 6);
  EXPECT_EQ(client_->requests_in_flight(), 0);
}

TEST_P(CorrectionTest, FieldsOutsideTheirLimitsAreRefused) {
  auto refused = [&](TestCorrection correction) {
    KeepingCorrectSink sink;
    absl::Status status = ClientCorrect(session_, correction, &sink);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  };
  TestCorrection good(kTestGeometry, 32, 2);
  TestCorrection bad = good;
  bad.request.layer = 2;
  refused(bad);
  bad = good;
  bad.request.end = 33;
  refused(bad);
  bad = good;
  bad.slot_count[0] = 1;
  refused(bad);
  bad = good;
  bad.q.pop_back();
  refused(bad);
  refused(TestCorrection(kTestGeometry, 32, kCorrectionSlotsMax + 1));
  bad = good;
  bad.request.threshold = NAN;  // only the store looks
  refused(bad);
  KeepingCorrectSink sink;
  EXPECT_EQ(ClientCorrect(session_, good, &sink), absl::OkStatus());
}

INSTANTIATE_TEST_SUITE_P(ScanThreads, CorrectionTest, ::testing::Values(0, 2));

}  // namespace
}  // namespace forecache
