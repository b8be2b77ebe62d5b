// What every policy promises, whatever it believes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <set>
#include <string>

#include "common/limits.h"
#include "predictor/conv_net.h"
#include "predictor/oracle.h"
#include "predictor/predictor.h"
#include "tests/predictor/rows.h"

namespace forecache {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr int kHeadDim = 4;
constexpr Predictor::Shape kShape = {
    .layers = 3, .kv_heads = 2, .group = 3, .head_dim = kHeadDim};

using Show = std::function<void(Predictor*, int, int, const AttentionRow&)>;

// One policy: how to make it, and how it learns of a row.
struct Policy {
  std::string name;
  std::function<std::unique_ptr<Predictor>()> make;
  Show show;
  size_t block_bytes = 2;  // of history, at most, for each block of a head
  size_t head_bytes = 0;   // besides
};

void PrintTo(const Policy& policy, std::ostream* out) { *out << policy.name; }

void ShowRow(Predictor* predictor, int layer, int head,
             const AttentionRow& row) {
  const std::vector<float> query(size_t{1} * kShape.group * kHeadDim, 1.0f);
  if (predictor->WantsQueries()) predictor->ObserveQuery(layer, head, query);
  predictor->Observe(layer, head, row);
}

// Keys whose product with the query is large where the row's mean is.  Digests
// only widen, so rows of one test add up: enough for what is promised here.
void ShowKeys(Predictor* predictor, int layer, int head,
              const AttentionRow& row) {
  for (int b = 0; b < row.blocks; ++b) {
    float mean = 0;
    for (int j = 0; j < kShape.group; ++j) {
      mean += row.probabilities[size_t{1} * j * row.blocks + b];
    }
    predictor->ObserveKeys(layer, head, b,
                           std::vector<float>(kHeadDim, mean));
  }
  ShowRow(predictor, layer, head, row);
}

size_t BlockBytes(const std::string& name) {
  if (name == "full" || name == "stream") return 0;
  if (name == "h2o") return sizeof(float);
  if (name == "linear4") return 4 * sizeof(uint16_t);
  if (name == "quest") return (2 * kHeadDim + 1) * sizeof(uint16_t);
  if (name == "conv" || name == "paper") {
    const int window = name == "conv" ? LoadConvNet("")->window : 64;
    return (window + 2) * sizeof(uint16_t) + sizeof(double);
  }
  return sizeof(uint16_t);
}

std::vector<Policy> AllPolicies() {
  std::vector<Policy> policies;
  for (const bool adaptive : {false, true}) {
    for (const std::string& name : PredictorNames()) {
      const PredictorOptions options = {
          .name = name, .shape = kShape, .adaptive = adaptive};
      policies.push_back(
          {.name = adaptive ? name + "+adaptive" : name,
           .make = [options] { return *MakePredictor(options); },
           .show = name == "quest" ? ShowKeys : ShowRow,
           .block_bytes = BlockBytes(name),
           // Two queries and what was chosen last.
           .head_bytes = adaptive ? 4u * 3 * kHeadDim + 4096 : 0u});
    }
  }
  policies.push_back(
      {.name = "oracle",
       .make = [] { return std::make_unique<OraclePredictor>(kShape); },
       .show = [](Predictor* p, int layer, int head, const AttentionRow& row) {
         static_cast<OraclePredictor*>(p)->Reveal(layer, head, row);
       }});
  return policies;
}

std::string TestName(const ::testing::TestParamInfo<Policy>& info) {
  std::string name = info.param.name;
  std::replace(name.begin(), name.end(), '+', '_');
  return name;
}

class PredictorContractTest : public ::testing::TestWithParam<Policy> {
 protected:
  std::unique_ptr<Predictor> Make() const { return GetParam().make(); }
  void Show(Predictor* predictor, const OwnedRow& row, int layer = 0,
            int kv_head = 0) const {
    GetParam().show(predictor, layer, kv_head, row.View());
  }

  // Asks, and checks what holds for every answer.
  std::vector<BlockChoice> Ask(Predictor* predictor, const ChoiceRange& range,
                               int count) const {
    std::vector<BlockChoice> choices = {{-7, -7.0f}};  // must be forgotten
    predictor->Predict(0, 0, range, count, &choices);
    EXPECT_LE(choices.size(), count);
    std::set<int32_t> distinct;
    for (size_t i = 0; i < choices.size(); ++i) {
      EXPECT_GE(choices[i].block, range.first);
      EXPECT_LT(choices[i].block, range.end);
      EXPECT_TRUE(std::isfinite(choices[i].confidence));
      EXPECT_TRUE(distinct.insert(choices[i].block).second);
      if (i == 0) continue;
      const bool is_tie = choices[i].confidence == choices[i - 1].confidence;
      EXPECT_LE(choices[i].confidence, choices[i - 1].confidence);
      if (is_tie) {
        EXPECT_LT(choices[i].block, choices[i - 1].block);
      }
    }
    return choices;
  }
};

TEST_P(PredictorContractTest, SaysItsName) {
  EXPECT_EQ(Make()->Name(), GetParam().name);
}

TEST_P(PredictorContractTest, HoldsAtEveryLength) {
  Rng rng(1);
  for (const int blocks : {0, 1, 2, 15, 16, 17, 31, 33, 100, 480}) {
    const auto predictor = Make();
    if (blocks > 0) Show(predictor.get(), RandomRow(blocks, 3, &rng));
    for (const int first : {0, 1, blocks / 2, blocks}) {
      for (const int end : {0, 1, blocks - 3, blocks}) {
        for (const int count : {0, 1, 24, blocks, blocks + 1}) {
          Ask(predictor.get(), {first, std::max(end, 0)}, count);
        }
      }
    }
  }
}

TEST_P(PredictorContractTest, AnswersAlikeTwice) {
  for (int run = 0; run < 2; ++run) {
    const auto one = Make();
    const auto two = Make();
    Rng rng(2 + run);
    for (int step = 0; step < 20; ++step) {
      const OwnedRow row = RandomRow(60 + step / 3, 3, &rng);
      Show(one.get(), row);
      Show(two.get(), row);
      const ChoiceRange range = {1, row.blocks - 2};
      const auto first = PredictBlocks(one.get(), range, 9);
      EXPECT_EQ(first, PredictBlocks(two.get(), range, 9));
      EXPECT_EQ(first, PredictBlocks(two.get(), range, 9));
    }
  }
}

TEST_P(PredictorContractTest, GrowsByBlocks) {
  const auto predictor = Make();
  Rng rng(3);
  for (int blocks = 1; blocks < 300; blocks += 1 + blocks / 7) {
    Show(predictor.get(), RandomRow(blocks, 3, &rng));
    Ask(predictor.get(), {1, blocks}, 24);
    Ask(predictor.get(), {1, blocks + 1}, 24);  // one ahead of what it saw
  }
}

TEST_P(PredictorContractTest, KeepsToTheBudgetTokenByToken) {
  constexpr int kBudget = 8, kSinks = 1, kRecent = 2;
  const auto predictor = Make();
  Rng rng(6);
  for (int tokens = 0; tokens <= 16 * 20; ++tokens) {
    if (tokens > 20 && tokens % 16 > 1) continue;  // 0, 1, 15, 16, 17, ...
    const int blocks = (tokens + 15) / 16;
    if (blocks > 0) Show(predictor.get(), RandomRow(blocks, 3, &rng));
    const int now = tokens / 16;
    const int end = std::max(now - kRecent, 0);
    const int first = std::min(kSinks, end);
    const int count = std::max(kBudget - first - (now - end) - 1, 0);
    const auto choices = Ask(predictor.get(), {first, end}, count);
    EXPECT_LE(first + choices.size() + (now - end) + 1,
              std::max(kBudget, now + 1));
  }
}

TEST_P(PredictorContractTest, AnswersWithoutHistory) {
  const auto predictor = Make();
  const auto choices = Ask(predictor.get(), {4, 20}, 5);
  if (choices.empty()) return;  // stream
  EXPECT_THAT(Blocks(choices), ElementsAre(19, 18, 17, 16, 15));
}

TEST_P(PredictorContractTest, TiesGoToTheLaterBlock) {
  const auto predictor = Make();
  Show(predictor.get(), RowOf(std::vector<float>(90, 0.01f), 3));
  // Away from the ends: a network sees where the context does.
  const auto choices = Ask(predictor.get(), {4, 86}, 3);
  if (choices.empty()) return;
  EXPECT_THAT(Blocks(choices), ElementsAre(85, 84, 83));
}

TEST_P(PredictorContractTest, TakesZeroNanAndOversizedProbabilities) {
  const auto predictor = Make();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float value : {0.0f, -0.0f, kNan, -1.0f, 7.0f, kInfinity, 0.0f}) {
    Show(predictor.get(), RowOf(std::vector<float>(40, value), 3));
    Ask(predictor.get(), {0, 40}, 10);
  }
}

TEST_P(PredictorContractTest, TakesPartialRows) {
  const auto predictor = Make();
  Rng rng(4);
  for (int step = 0; step < 30; ++step) {
    OwnedRow row = RandomRow(50 + step, 3, &rng);
    for (int b = 0; b < row.blocks; ++b) {
      if (rng.Below(3) == 0) row.seen.push_back(b);
    }
    if (step % 10 == 0) row.seen = {};  // as from a probe
    Show(predictor.get(), row);
    Ask(predictor.get(), {1, row.blocks - 2}, 12);
  }
}

TEST_P(PredictorContractTest, KeepsHeadsAndLayersApart) {
  const auto predictor = Make();
  for (int layer = 0; layer < kShape.layers; ++layer) {
    for (int head = 0; head < kShape.kv_heads; ++head) {
      std::vector<float> scores(24, 0.001f);
      scores[4 + layer * 3 + head] = 0.5f;
      Show(predictor.get(), RowOf(scores, 3), layer, head);
    }
  }
  // Away from the ends: a network knows that the blocks there get much.
  constexpr ChoiceRange kRange = {3, 14};
  if (PredictBlocks(predictor.get(), kRange, 1).empty()) return;  // stream
  if (GetParam().name.starts_with("full")) return;  // whatever it saw
  for (int layer = 0; layer < kShape.layers; ++layer) {
    for (int head = 0; head < kShape.kv_heads; ++head) {
      EXPECT_THAT(PredictBlocks(predictor.get(), kRange, 1, layer, head),
                  ElementsAre(4 + layer * 3 + head));
    }
  }
}

TEST_P(PredictorContractTest, BoundsItsHistory) {
  const auto predictor = Make();
  EXPECT_EQ(predictor->HistoryBytes(), 0u);
  Rng rng(5);
  for (int repeat = 0; repeat < 3; ++repeat) {
    Show(predictor.get(), RandomRow(480, 3, &rng));
    PredictBlocks(predictor.get(), {1, 470}, 29);
    EXPECT_LE(predictor->HistoryBytes(),
              GetParam().block_bytes * 512 + GetParam().head_bytes);
  }
}

using PredictorDeathTest = PredictorContractTest;

TEST_P(PredictorDeathTest, RefusesACallersBug) {
  const auto predictor = Make();
  std::vector<BlockChoice> choices;
  EXPECT_DEATH(predictor->Predict(0, 0, {0, 5}, -1, &choices), "count");
  EXPECT_DEATH(predictor->Predict(0, 0, {-1, 5}, 1, &choices), "-1");
  EXPECT_DEATH(
      predictor->Predict(0, 0, {0, kContextBlocksMax + 1}, 1, &choices),
      "65537");
}

INSTANTIATE_TEST_SUITE_P(
    AllPolicies, PredictorContractTest, ::testing::ValuesIn(AllPolicies()),
    TestName);
INSTANTIATE_TEST_SUITE_P(
    AllPolicies, PredictorDeathTest, ::testing::ValuesIn(AllPolicies()),
    TestName);

// --- Options ----------------------------------------------------------------

std::string Refusal(const PredictorOptions& options) {
  const auto made = MakePredictor(options);
  if (made.ok()) return "accepted";
  EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument);
  return std::string(made.status().message());
}

TEST(MakePredictorTest, NamesTheFieldAndWhatItMayBe) {
  const PredictorOptions good = {.name = "ema", .shape = kShape};
  EXPECT_EQ(Refusal(good), "accepted");
  PredictorOptions bad = good;
  bad.name = "magic";
  EXPECT_EQ(Refusal(bad),
            "PredictorOptions::name is \"magic\", but may be full, stream, "
            "last, ema, linear4, conv, paper, h2o, recycled, quest, tactic");
  bad = good;
  bad.shape.layers = 0;
  EXPECT_THAT(Refusal(bad), HasSubstr("shape.layers is 0, but may be 1 to"));
  bad = good;
  bad.shape.kv_heads = kKvHeadsMax + 1;
  EXPECT_THAT(Refusal(bad), HasSubstr("shape.kv_heads is 129"));
  bad = good;
  bad.shape.group = -4;
  EXPECT_THAT(Refusal(bad), HasSubstr("shape.group is -4"));
  for (const float alpha : {0.0f, -0.5f, 1.5f, std::nanf("")}) {
    bad = good;
    bad.ema_alpha = alpha;
    EXPECT_THAT(Refusal(bad), HasSubstr("ema_alpha is "));
    EXPECT_THAT(Refusal(bad), HasSubstr("above 0 and up to 1"));
  }
}

TEST(MakePredictorTest, RefusesWhatAPolicyCannotRunWith) {
  PredictorOptions bad = {.name = "quest", .shape = kShape};
  bad.shape.head_dim = 0;
  EXPECT_THAT(Refusal(bad), HasSubstr("shape.head_dim is 0"));
  bad = {.name = "recycled", .shape = kShape, .recycled_steps = 0};
  EXPECT_THAT(Refusal(bad), HasSubstr("recycled_steps is 0"));
  bad = {.name = "tactic", .shape = kShape, .tactic_share = 1.1f};
  EXPECT_THAT(Refusal(bad), HasSubstr("tactic_share is 1.1"));
  bad = {.shape = kShape, .adaptive_share = 0};
  EXPECT_THAT(Refusal(bad), HasSubstr("adaptive_share is 0"));
  bad = {.shape = kShape, .adaptive_profile = {1, 2}};
  EXPECT_THAT(Refusal(bad),
              HasSubstr("adaptive_profile has 2 numbers, but may have none, "
                        "or 6"));
}

TEST(MakePredictorTest, TakesEveryNameItLists) {
  for (const std::string& name : PredictorNames()) {
    EXPECT_EQ(Refusal({.name = name, .shape = kShape}), "accepted");
  }
}

}  // namespace
}  // namespace forecache
