// Where probes go, and that the budget is kept.
#include "predictor/adaptive.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "predictor/last.h"
#include "predictor/stream.h"
#include "tests/predictor/rows.h"

namespace forecache {
namespace {

constexpr int kDim = 8;
constexpr Predictor::Shape kShape = {
    .layers = 4, .kv_heads = 1, .group = 1, .head_dim = kDim};

std::unique_ptr<AdaptivePredictor> Make(const AdaptiveOptions& options) {
  return std::make_unique<AdaptivePredictor>(
      std::make_unique<LastPredictor>(kShape), kShape, options);
}

// Plays `tokens` tokens and counts each layer's probes.  Layer l's query turns
// by `turn[l]` of the way to a random one, and so do its scores.
std::vector<int> Play(AdaptivePredictor* predictor, int tokens,
                      const std::vector<float>& turn, uint64_t seed = 1) {
  Rng rng(seed);
  std::vector<int> probes(kShape.layers, 0);
  std::vector<std::vector<float>> query(kShape.layers,
                                        std::vector<float>(kDim, 1.0f));
  std::vector<OwnedRow> row;
  for (int layer = 0; layer < kShape.layers; ++layer) {
    row.push_back(RandomRow(100, 1, &rng));
  }
  for (int token = 0; token < tokens; ++token) {
    for (int layer = 0; layer < kShape.layers; ++layer) {
      for (float& x : query[layer]) x += turn[layer] * (rng.Normal() - x);
      const OwnedRow other = RandomRow(100, 1, &rng);
      for (int b = 0; b < 100; ++b) {
        float& p = row[layer].probabilities[b];
        p += turn[layer] * (other.probabilities[b] - p);
      }
      predictor->ObserveQuery(layer, 0, query[layer]);
      if (predictor->WantsProbe(layer)) {
        ++probes[layer];
        predictor->Observe(layer, 0, row[layer].View());
      }
      PredictBlocks(predictor, {1, 97}, 6, layer);
    }
  }
  return probes;
}

TEST(AdaptiveTest, KeepsItsBudget) {
  for (const float share : {0.1f, 0.25f, 0.5f, 1.0f}) {
    const auto predictor = Make({.share = share});
    int sum = 0;
    for (const int n : Play(predictor.get(), 400, {1, 1, 1, 1})) sum += n;
    EXPECT_LE(sum, share * 400 * kShape.layers + 2 * kShape.layers) << share;
    EXPECT_GE(sum, 0.8f * share * 400 * kShape.layers) << share;
  }
}

TEST(AdaptiveTest, ProbesWhereQueriesTurn) {
  const auto predictor = Make({.share = 0.3f});
  const auto probes = Play(predictor.get(), 400, {0.01f, 0.01f, 0.01f, 0.7f});
  for (int calm = 0; calm < 3; ++calm) {
    EXPECT_GT(probes[3], 3 * probes[calm]) << calm;
    EXPECT_GT(probes[calm], 400 / 40) << "no layer is forgotten";
  }
}

TEST(AdaptiveTest, HeedsTheProfileOfTheModel) {
  const auto predictor = Make({.share = 0.3f, .profile = {1, 8, 1, 1}});
  const auto probes = Play(predictor.get(), 400, {0.2f, 0.2f, 0.2f, 0.2f});
  for (const int other : {0, 2, 3}) {
    EXPECT_GT(probes[1], 2 * probes[other]) << other;
  }
}

TEST(AdaptiveTest, IsDeterministic) {
  const auto one = Make({.share = 0.4f}), two = Make({.share = 0.4f});
  const std::vector<float> turn = {0.1f, 0.9f, 0.3f, 0.5f};
  EXPECT_EQ(Play(one.get(), 200, turn), Play(two.get(), 200, turn));
}

TEST(AdaptiveTest, WorksWithoutQueries) {
  const auto predictor = Make({.share = 0.25f});
  Rng rng(2);
  int probes = 0;
  for (int token = 0; token < 200; ++token) {
    for (int layer = 0; layer < kShape.layers; ++layer) {
      if (predictor->WantsProbe(layer)) {
        ++probes;
        predictor->Observe(layer, 0, RandomRow(50, 1, &rng).View());
      }
      PredictBlocks(predictor.get(), {1, 47}, 4, layer);
    }
  }
  EXPECT_NEAR(probes, 0.25 * 200 * kShape.layers, 50);
}

TEST(AdaptiveTest, AsksForNothingThatThePolicyDoesNotWant) {
  AdaptivePredictor stream(std::make_unique<StreamPredictor>(), kShape, {});
  EXPECT_FALSE(stream.WantsProbe(0));
  EXPECT_FALSE(stream.WantsProbeOfHead(0, 0));
}

}  // namespace
}  // namespace forecache
