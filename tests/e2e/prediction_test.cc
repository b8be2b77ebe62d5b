// Both daemons, a real model and text: scans, budgets and mode AUTO.

#include <string>

#include "predictor/predictor.h"
#include "tests/e2e/fixture.h"

namespace forecache::e2e {
namespace {

constexpr size_t kTextBytes = 3500;  // about 850 tokens, 54 blocks
constexpr int kBudget = 12;
constexpr uint64_t kHeads = 30 * 3;
constexpr uint64_t kBlockBytes = 4096;

using PredictionTest = DaemonTest;

v1::GenerateRequest Sparse() {
  auto request = Request(StoryText(kTextBytes), v1::SPARSE);
  request.set_budget_blocks(kBudget);
  request.set_late_policy(v1::STRICT);
  request.set_no_tail(true);
  return request;
}

TEST_F(PredictionTest, EveryPolicyAnswersWithinItsBudget) {
  StartBoth();
  for (const std::string& name : PredictorNames()) {
    if (name == "full") continue;
    auto request = Sparse();
    request.set_predictor(name);
    request.set_corrected_blocks(0);
    request.set_max_tokens(20);
    const auto answer = Generate(request);
    ASSERT_TRUE(answer.ok()) << name << ": " << answer.status();
    EXPECT_LE(answer->summary.resident_bytes(), kBudget * kHeads * kBlockBytes)
        << name;
    EXPECT_EQ(answer->summary.wrong_blocks(), 0u) << name;
  }
}

TEST_F(PredictionTest, SharedScanIsOneScanAToken) {
  StartBoth();
  auto request = Sparse();
  request.set_shared_scan(false);
  const auto apart = Generate(request);
  ASSERT_TRUE(apart.ok()) << apart.status();
  request.clear_shared_scan();
  const auto shared = Generate(request);
  ASSERT_TRUE(shared.ok()) << shared.status();
  const double ratio = double(shared->summary.probe_key_bytes()) /
                       double(apart->summary.probe_key_bytes());
  EXPECT_GT(ratio, 0.45);
  EXPECT_LT(ratio, 0.62);  // and the scan of the prompt's last token
  EXPECT_GT(shared->summary.corrected(), 0u);
}

TEST_F(PredictionTest, LentAndProfiledBudgetsKeepTheTotal) {
  StartBoth();
  for (const bool profiled : {false, true}) {
    auto request = Sparse();
    request.set_profiled_budget(profiled);
    request.set_max_tokens(70);
    const auto answer = Generate(request);
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_LE(answer->summary.resident_bytes(), kBudget * kHeads * kBlockBytes);
    EXPECT_GT(answer->summary.resident_bytes(),
              kBudget * kHeads * kBlockBytes / 2);
    EXPECT_EQ(answer->summary.wrong_blocks(), 0u);
  }
}

TEST_F(PredictionTest, TrafficComesToItsTarget) {
  StartBoth();
  auto request = Sparse();
  request.set_max_tokens(120);
  const auto moved = [](const v1::Summary& summary) {
    return double(summary.predicted() + summary.corrected()) / kHeads /
           summary.decoded_tokens();
  };
  request.set_traffic_target(0);
  const auto free = Generate(request);
  ASSERT_TRUE(free.ok()) << free.status();
  ASSERT_GT(moved(free->summary), 3);
  for (const double target : {1.0, 2.5}) {
    request.set_traffic_target(target);
    const auto held = Generate(request);
    const auto again = Generate(request);
    ASSERT_TRUE(held.ok() && again.ok());
    EXPECT_NEAR(moved(held->summary), target, 0.2 * target);
    EXPECT_EQ(held->summary.corrected(), again->summary.corrected());
    EXPECT_EQ(held->summary.nll_sum(), again->summary.nll_sum());
  }
}

TEST_F(PredictionTest, MissedMassFallsAsTheBudgetGrows) {
  StartBoth();
  auto request = Sparse();
  request.set_shared_scan(false);
  const auto small = Generate(request);
  request.set_budget_blocks(40);
  const auto large = Generate(request);
  ASSERT_TRUE(small.ok() && large.ok());
  EXPECT_GT(small->summary.missed_mass(), large->summary.missed_mass());
  EXPECT_GE(small->summary.missed_mass_worst(), small->summary.missed_mass());
  EXPECT_LE(small->summary.missed_mass_worst(), 1.0);
  EXPECT_GE(large->summary.missed_mass(), 0.0);
}

TEST_F(PredictionTest, AutoThatIsNeverSureIsExact) {
  StartBoth();
  const auto exact = Generate(Request(StoryText(kTextBytes), v1::EXACT));
  ASSERT_TRUE(exact.ok()) << exact.status();
  auto request = Sparse();
  request.set_mode(v1::AUTO);
  request.set_auto_missed_mass(1e-9);
  const auto unsure = Generate(request);
  ASSERT_TRUE(unsure.ok()) << unsure.status();
  EXPECT_EQ(unsure->text, exact->text);
  EXPECT_GT(unsure->summary.exact_layers(), 0u);
  EXPECT_GT(unsure->summary.exact_tokens(), 0u);
  const std::string metrics = demo::FetchMetrics(worker().metrics);
  EXPECT_NE(metrics.find("forecache_worker_exact_tokens_total"),
            std::string::npos);
  EXPECT_EQ(metrics.find("forecache_worker_exact_tokens_total 0"),
            std::string::npos);
}

TEST_F(PredictionTest, AutoThatIsAlwaysSureIsSparse) {
  StartBoth();
  auto request = Sparse();
  const auto sparse = Generate(request);
  request.set_mode(v1::AUTO);
  request.set_auto_missed_mass(1.0);
  const auto sure = Generate(request);
  ASSERT_TRUE(sparse.ok() && sure.ok());
  EXPECT_EQ(sure->text, sparse->text);
  EXPECT_EQ(sure->summary.exact_layers(), 0u);
  EXPECT_EQ(sure->summary.exact_tokens(), 0u);
}

}  // namespace
}  // namespace forecache::e2e
