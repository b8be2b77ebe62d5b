// What each policy means.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "predictor/ema.h"
#include "predictor/full.h"
#include "predictor/last.h"
#include "predictor/oracle.h"
#include "predictor/stream.h"
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

}  // namespace
}  // namespace forecache
