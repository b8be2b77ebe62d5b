// What each policy means.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "predictor/ema.h"
#include "predictor/full.h"
#include "predictor/h2o.h"
#include "predictor/last.h"
#include "predictor/linear4.h"
#include "predictor/oracle.h"
#include "predictor/quest.h"
#include "predictor/recycled.h"
#include "predictor/stream.h"
#include "predictor/tactic.h"
#include "tests/predictor/rows.h"

namespace forecache {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr Predictor::Shape kOneHead = {.layers = 1, .kv_heads = 1, .group = 1};

TEST(FullTest, ChoosesEverythingInRange) {
  FullPredictor full;
  EXPECT_THAT(PredictBlocks(&full, {2, 6}, 100), ElementsAre(5, 4, 3, 2));
  EXPECT_FALSE(full.WantsProbe(0));
}

TEST(StreamTest, ChoosesNothing) {
  StreamPredictor stream;
  stream.Observe(0, 0, RowOf({0.5f, 0.5f}).View());
  EXPECT_THAT(PredictBlocks(&stream, {0, 2}, 2), IsEmpty());
  EXPECT_FALSE(stream.WantsProbe(0));
}

TEST(LastTest, ChoosesByTheLastRowAlone) {
  LastPredictor last(kOneHead);
  last.Observe(0, 0, RowOf({0.9f, 0.8f, 0.1f, 0.2f}).View());
  EXPECT_THAT(PredictBlocks(&last, {0, 4}, 2), ElementsAre(0, 1));
  last.Observe(0, 0, RowOf({0.0f, 0.1f, 0.4f, 0.3f}).View());
  EXPECT_THAT(PredictBlocks(&last, {0, 4}, 3), ElementsAre(2, 3, 1));
  EXPECT_TRUE(last.WantsProbe(0));
}

TEST(LastTest, AveragesItsQueryHeads) {
  LastPredictor last({.layers = 1, .kv_heads = 1, .group = 3});
  OwnedRow row;
  row.blocks = 3;
  row.probabilities = {0.9f, 0.4f, 0.0f,   // query head 0
                       0.0f, 0.4f, 0.6f,   // query head 1
                       0.0f, 0.4f, 0.5f};  // query head 2
  last.Observe(0, 0, row.View());
  std::vector<BlockChoice> choices;
  last.Predict(0, 0, {0, 3}, 3, &choices);
  EXPECT_THAT(Blocks(choices), ElementsAre(1, 2, 0));
  EXPECT_NEAR(choices[0].confidence, 0.4f, 1e-3);
  EXPECT_NEAR(choices[2].confidence, 0.3f, 1e-3);
}

TEST(LastTest, PartialRowsMoveOnlyWhatWasSeen) {
  LastPredictor last(kOneHead);
  last.Observe(0, 0, RowOf({0.4f, 0.3f, 0.2f, 0.1f}).View());
  OwnedRow row = RowOf({0.0f, 1.0f, 1.0f, 0.35f, 1.0f});
  row.seen = {0, 3};
  last.Observe(0, 0, row.View());
  // Block 4 is new and was not seen: 0, and later than block 0.
  EXPECT_THAT(PredictBlocks(&last, {0, 5}, 5), ElementsAre(3, 1, 2, 4, 0));
}

TEST(EmaTest, AveragesExponentially) {
  EmaPredictor ema(kOneHead, 0.25f);
  ema.Observe(0, 0, RowOf({0.8f, 0.4f}).View());
  ema.Observe(0, 0, RowOf({0.0f, 0.4f}).View());
  std::vector<BlockChoice> choices;
  ema.Predict(0, 0, {0, 2}, 2, &choices);
  EXPECT_THAT(Blocks(choices), ElementsAre(0, 1));
  EXPECT_NEAR(choices[0].confidence, 0.6f, 1e-3);
  EXPECT_NEAR(choices[1].confidence, 0.4f, 1e-3);
  for (int i = 0; i < 3; ++i) ema.Observe(0, 0, RowOf({0.0f, 0.4f}).View());
  EXPECT_THAT(PredictBlocks(&ema, {0, 2}, 2), ElementsAre(1, 0));
  EXPECT_TRUE(ema.WantsProbe(0));
}

TEST(EmaTest, NewBlocksStartFromZero) {
  EmaPredictor ema(kOneHead, 0.25f);
  ema.Observe(0, 0, RowOf({0.2f}).View());
  ema.Observe(0, 0, RowOf({0.2f, 0.4f}).View());
  std::vector<BlockChoice> choices;
  ema.Predict(0, 0, {0, 2}, 2, &choices);
  EXPECT_THAT(Blocks(choices), ElementsAre(0, 1));
  EXPECT_NEAR(choices[1].confidence, 0.1f, 1e-3);
}

TEST(EmaTest, PartialRowsMoveOnlyWhatWasSeen) {
  EmaPredictor ema(kOneHead, 0.5f);
  ema.Observe(0, 0, RowOf({0.4f, 0.2f, 0.1f}).View());
  OwnedRow row = RowOf({0.9f, 0.0f, 0.9f});
  row.seen = {1};
  ema.Observe(0, 0, row.View());
  std::vector<BlockChoice> choices;
  ema.Predict(0, 0, {0, 3}, 3, &choices);
  EXPECT_THAT(Blocks(choices), ElementsAre(0, 2, 1));
  EXPECT_NEAR(choices[0].confidence, 0.4f, 1e-3);
  EXPECT_NEAR(choices[2].confidence, 0.1f, 1e-3);
}

TEST(EmaTest, FollowsTinyProbabilities) {
  // At a million tokens the average block has 1e-5: f16 as it is would have
  // six bits left there.
  EmaPredictor ema(kOneHead, 0.3f);
  std::vector<float> scores = {1.000e-6f, 1.004e-6f, 1.002e-6f};
  for (int i = 0; i < 5; ++i) ema.Observe(0, 0, RowOf(scores).View());
  EXPECT_THAT(PredictBlocks(&ema, {0, 3}, 3), ElementsAre(1, 2, 0));
}

TEST(OracleTest, ChoosesByTheRowThatIsToCome) {
  OraclePredictor oracle(kOneHead);
  oracle.Observe(0, 0, RowOf({0.9f, 0.0f, 0.0f}).View());
  oracle.Reveal(0, 0, RowOf({0.1f, 0.2f, 0.7f}).View());
  EXPECT_THAT(PredictBlocks(&oracle, {0, 3}, 2), ElementsAre(2, 1));
}

TEST(Linear4Test, WeighsTheLastFourRows) {
  Linear4Predictor linear(kOneHead);
  for (int newest = 0; newest < 4; ++newest) {
    std::vector<float> scores(4, 0.0f);
    scores[newest] = 0.5f;
    linear.Observe(0, 0, RowOf(scores).View());
  }
  std::vector<BlockChoice> choices;
  linear.Predict(0, 0, {0, 4}, 4, &choices);
  ASSERT_EQ(choices.size(), 4u);
  EXPECT_EQ(choices[0].block, 3) << "the newest";
  for (const BlockChoice& choice : choices) {
    EXPECT_NEAR(choice.confidence,
                0.5f * Linear4Predictor::kWeights[3 - choice.block], 1e-3);
  }
}

TEST(H2oTest, AddsUpWhatWasAttended) {
  H2oPredictor h2o(kOneHead);
  EXPECT_TRUE(h2o.WantsProbe(0));
  h2o.Observe(0, 0, RowOf({0.1f, 0.3f, 0.2f}).View());
  EXPECT_FALSE(h2o.WantsProbe(0));
  OwnedRow row = RowOf({0.2f, 0.9f, 0.2f});
  row.seen = {0, 2};
  h2o.Observe(0, 0, row.View());
  // 0.3, 0.3 and 0.4: block 1 was not attended, and keeps what it had.
  EXPECT_THAT(PredictBlocks(&h2o, {0, 3}, 3), ElementsAre(2, 1, 0));
}

TEST(RecycledTest, UsesARowUntilTheNextProbe) {
  RecycledPredictor recycled(kOneHead, 3);
  for (int round = 0; round < 3; ++round) {
    EXPECT_TRUE(recycled.WantsProbe(0));
    std::vector<float> scores(3, 0.1f);
    scores[round] = 0.4f;
    recycled.Observe(0, 0, RowOf(scores).View());
    for (int token = 0; token < 3; ++token) {
      EXPECT_EQ(recycled.WantsProbe(0), false);
      EXPECT_THAT(PredictBlocks(&recycled, {0, 3}, 1), ElementsAre(round));
      OwnedRow partial = RowOf({1, 1, 1});
      partial.seen = {(round + 1) % 3};
      recycled.Observe(0, 0, partial.View());
    }
  }
}

TEST(TacticTest, GivesBackWhatAPeakedHeadDoesNotNeed) {
  TacticPredictor tactic(kOneHead, 0.9f);
  std::vector<float> peaked(100, 1e-5f);
  peaked[40] = 0.6f;
  peaked[50] = 0.38f;
  tactic.Observe(0, 0, RowOf(peaked).View());
  EXPECT_THAT(PredictBlocks(&tactic, {0, 100}, 20), ElementsAre(40, 50));
  tactic.Observe(0, 0, RowOf(std::vector<float>(100, 0.01f)).View());
  EXPECT_EQ(PredictBlocks(&tactic, {0, 100}, 20).size(), 20u);
}

TEST(TacticTest, FitsThePowerLawOfTheTail) {
  std::vector<BlockChoice> choices;
  float tail = 0;
  for (int rank = 1; rank <= 400; ++rank) {
    const float mass = 0.2f * std::pow(rank, -1.3f);
    if (rank <= 24) choices.push_back({400 - rank, mass});
    if (rank > 24) tail += mass;
  }
  EXPECT_NEAR(FittedTail(choices, 400), tail, 0.02f * tail);
  EXPECT_EQ(FittedTail(choices, 24), 0);
  EXPECT_EQ(FittedTail({}, 24), 0);
}

TEST(QuestTest, BoundsEveryLogit) {
  QuestPredictor quest({.layers = 1, .kv_heads = 1, .group = 1,
                        .head_dim = 2});
  quest.ObserveKeys(0, 0, 0, std::vector<float>{1, -1, -1, 1});
  quest.ObserveKeys(0, 0, 1, std::vector<float>{1.5f, 0});
  quest.ObserveKeys(0, 0, 2, std::vector<float>{-3, -3});
  EXPECT_TRUE(quest.WantsKeys());
  EXPECT_FALSE(quest.WantsProbe(0));
  // Bounds: 2 (though no single key has it), 1.5, -6.
  quest.ObserveQuery(0, 0, std::vector<float>{1, 1});
  EXPECT_THAT(PredictBlocks(&quest, {0, 3}, 3), ElementsAre(0, 1, 2));
  quest.ObserveQuery(0, 0, std::vector<float>{-1, -1});
  EXPECT_THAT(PredictBlocks(&quest, {0, 3}, 3), ElementsAre(2, 0, 1));
  // A decoded token joins its block.
  quest.ObserveKeys(0, 0, 1, std::vector<float>{-9, 0});
  quest.ObserveQuery(0, 0, std::vector<float>{-1, -1});
  EXPECT_THAT(PredictBlocks(&quest, {0, 3}, 1), ElementsAre(1));
}

}  // namespace
}  // namespace forecache
