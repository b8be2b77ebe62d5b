#include <gtest/gtest.h>

#include <cmath>

#include "worker/generator.h"

namespace forecache {
namespace {

TEST(SessionOptionsTest, DefaultIsASixteenthOfTheContext) {
  const auto options = ReadSessionOptions({}, 7000);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->prefetch.budget.blocks, 438 / 16);
  EXPECT_EQ(options->prefetch.budget.sinks, 1);
  EXPECT_EQ(options->prefetch.budget.recent, 3);
  EXPECT_EQ(options->prefetch.late_policy, LatePolicy::kWait);
  EXPECT_EQ(options->predictor, "last");
  EXPECT_TRUE(options->prefetch.tail);
}

TEST(SessionOptionsTest, DefaultIsOneScanWithLentCorrections) {
  const auto options = ReadSessionOptions({}, 7000);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->prefetch.shared_scan);
  EXPECT_TRUE(options->prefetch.budget.lends);
  EXPECT_EQ(options->prefetch.budget.corrected,
            options->prefetch.budget.blocks - options->prefetch.budget.Floor());
}

TEST(SessionOptionsTest, AProfileSharesTheBudgetOutWhereThereAreCorrections) {
  v1::GenerateRequest request;
  EXPECT_TRUE(ReadSessionOptions(request, 7000)->profiled_budget);
  request.set_profiled_budget(false);
  EXPECT_FALSE(ReadSessionOptions(request, 7000)->profiled_budget);
  request.clear_profiled_budget();
  request.set_corrected_blocks(0);
  EXPECT_FALSE(ReadSessionOptions(request, 7000)->profiled_budget);
  request.set_profiled_budget(true);
  EXPECT_TRUE(ReadSessionOptions(request, 7000)->profiled_budget);
}

TEST(SessionOptionsTest, ProbesAreAskedForWithoutSharedScans) {
  v1::GenerateRequest request;
  const auto refused = [&](const std::string& field) {
    const absl::Status status = ReadSessionOptions(request, 7000).status();
    return absl::IsInvalidArgument(status) &&
           status.message().find(field) != std::string::npos;
  };
  request.set_probe_every(5);
  EXPECT_TRUE(refused("probe_every"));
  request.set_shared_scan(false);
  EXPECT_EQ(ReadSessionOptions(request, 7000)->prefetch.probe_every, 5);
  request.Clear();
  request.set_probe_share(0.5);
  EXPECT_TRUE(refused("probe_share"));
  request.set_corrected_blocks(0);  // nothing that could be shared
  EXPECT_FLOAT_EQ(ReadSessionOptions(request, 7000)->probe_share, 0.5f);
}

TEST(SessionOptionsTest, ShortContextIsHeldWhole) {
  for (int tokens : {1, 15, 16, 17, 80, 1000}) {
    const auto options = ReadSessionOptions({}, tokens);
    ASSERT_TRUE(options.ok()) << tokens << ": " << options.status();
    EXPECT_EQ(options->prefetch.budget.blocks, 5);
  }
}

TEST(SessionOptionsTest, BudgetBelowSinksAndWindowIsRefused) {
  v1::GenerateRequest request;
  request.set_budget_blocks(4);
  auto options = ReadSessionOptions(request, 7000);
  EXPECT_TRUE(absl::IsInvalidArgument(options.status()));
  EXPECT_NE(options.status().message().find("budget_blocks"),
            std::string::npos);
  request.set_budget_blocks(5);
  EXPECT_TRUE(ReadSessionOptions(request, 7000).ok());
  request.set_sink_blocks(2);
  EXPECT_FALSE(ReadSessionOptions(request, 7000).ok());
  request.Clear();
  request.set_budget_fraction(1e-3);
  options = ReadSessionOptions(request, 7000);
  EXPECT_TRUE(absl::IsInvalidArgument(options.status()));
  EXPECT_NE(options.status().message().find("budget_fraction"),
            std::string::npos);
}

TEST(SessionOptionsTest, CorrectionsAreInsideTheBudget) {
  v1::GenerateRequest request;
  request.set_budget_blocks(13);  // 8 are chosen
  request.set_lent_corrections(false);
  auto options = ReadSessionOptions(request, 7000);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->prefetch.budget.corrected, 3);
  request.set_lent_corrections(true);
  options = ReadSessionOptions(request, 7000);
  EXPECT_EQ(options->prefetch.budget.corrected, 8);
  EXPECT_TRUE(options->prefetch.tail);
  request.set_corrected_blocks(8);
  EXPECT_EQ(ReadSessionOptions(request, 7000)->prefetch.budget.corrected, 8);
  request.set_corrected_blocks(9);
  EXPECT_TRUE(absl::IsInvalidArgument(
      ReadSessionOptions(request, 7000).status()));
  request.clear_corrected_blocks();
  request.set_predictor("stream");  // sinks and window, nothing else
  options = ReadSessionOptions(request, 7000);
  EXPECT_EQ(options->prefetch.budget.corrected, 0);
  EXPECT_FALSE(options->prefetch.tail);
}

TEST(SessionOptionsTest, ExactNeverGoesOnWithoutABlock) {
  v1::GenerateRequest request;
  request.set_mode(v1::EXACT);
  request.set_predictor("stream");
  request.set_late_policy(v1::SKIP);
  const auto options = ReadSessionOptions(request, 7000);
  ASSERT_TRUE(options.ok());
  EXPECT_EQ(options->predictor, "full");
  EXPECT_EQ(options->prefetch.late_policy, LatePolicy::kStrict);
}

TEST(SessionOptionsTest, FieldsOutsideTheirLimitsAreNamed) {
  v1::GenerateRequest request;
  request.set_late_deadline_ms(60'001);
  EXPECT_NE(ReadSessionOptions(request, 10).status().message().find(
                "late_deadline_ms"),
            std::string::npos);
  request.Clear();
  request.set_request_id(std::string(129, 'x'));
  EXPECT_NE(
      ReadSessionOptions(request, 10).status().message().find("request_id"),
      std::string::npos);
  request.Clear();
  request.set_budget_fraction(-1);
  EXPECT_FALSE(ReadSessionOptions(request, 10).ok());
}

TEST(SessionOptionsTest, ADomainComesWithItsTokens) {
  v1::GenerateRequest request;
  EXPECT_TRUE(ReadSessionOptions(request, 7000)->shared.domain.empty());
  request.set_domain("public");
  const auto refused = [&](const std::string& why) {
    const absl::Status status = ReadSessionOptions(request, 7000).status();
    return absl::IsInvalidArgument(status) &&
           status.message().find(why) != std::string::npos;
  };
  EXPECT_TRUE(refused("domain and domain_tokens: give both"));
  request.set_domain_tokens(7001);
  EXPECT_TRUE(refused("domain_tokens: 7001, and the prompt has 7000"));
  request.set_domain_tokens(7000);
  auto options = ReadSessionOptions(request, 7000);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_EQ(options->shared.domain, "public");
  EXPECT_EQ(options->shared.tokens, 7000);
  request.set_mode(v1::EXACT);
  EXPECT_EQ(ReadSessionOptions(request, 7000)->shared.domain, "public");
  request.set_domain(std::string(65, 'd'));
  EXPECT_TRUE(refused("domain: 65 bytes, at most 64"));
  request.clear_domain();
  EXPECT_TRUE(refused("domain and domain_tokens: give both"));
}

TEST(SessionOptionsTest, AutoNeedsCorrections) {
  v1::GenerateRequest request;
  request.set_mode(v1::AUTO);
  auto options = ReadSessionOptions(request, 7000);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_TRUE(options->prefetch.shared_scan);
  EXPECT_FLOAT_EQ(options->prefetch.auto_missed, 0.1f);
  request.set_auto_missed_mass(0.02);
  EXPECT_FLOAT_EQ(ReadSessionOptions(request, 7000)->prefetch.auto_missed,
                  0.02f);
  request.set_corrected_blocks(0);
  options = ReadSessionOptions(request, 7000);
  EXPECT_TRUE(absl::IsInvalidArgument(options.status()));
  EXPECT_NE(options.status().message().find("mode"), std::string::npos);
}

TEST(SessionOptionsTest, SharesOutsideTheirRangeAreNamed) {
  v1::GenerateRequest request;
  request.set_auto_missed_mass(1.5);
  auto options = ReadSessionOptions(request, 7000);
  EXPECT_TRUE(absl::IsInvalidArgument(options.status()));
  EXPECT_NE(options.status().message().find("auto_missed_mass"),
            std::string::npos);
  request.Clear();
  request.set_probe_share(-0.1f);
  options = ReadSessionOptions(request, 7000);
  EXPECT_TRUE(absl::IsInvalidArgument(options.status()));
  EXPECT_NE(options.status().message().find("probe_share"),
            std::string::npos);
}

TEST(SessionOptionsTest, WhereCorrectionsAreLentTrafficIsHeld) {
  v1::GenerateRequest request;
  request.set_lent_corrections(false);
  EXPECT_EQ(ReadSessionOptions(request, 7424)->prefetch.budget.traffic_target,
            0);
  request.clear_lent_corrections();
  for (const double fraction : {1.0 / 8, 1.0 / 16, 1.0 / 32}) {
    request.set_budget_fraction(fraction);
    EXPECT_NEAR(
        ReadSessionOptions(request, 7424)->prefetch.budget.traffic_target,
        0.25 / fraction, 0.3);
  }
  request.set_traffic_target(0);
  EXPECT_EQ(ReadSessionOptions(request, 7424)->prefetch.budget.traffic_target,
            0);
}

TEST(SessionOptionsTest, TrafficIsHeldWhereThereAreCorrections) {
  v1::GenerateRequest request;
  request.set_traffic_target(3.5);
  EXPECT_EQ(ReadSessionOptions(request, 7000)->prefetch.budget.traffic_target,
            3.5);
  request.set_corrected_blocks(0);
  EXPECT_EQ(ReadSessionOptions(request, 7000)->prefetch.budget.traffic_target,
            0);
  for (const double target : {-1.0, 64.5, std::nan("")}) {
    request.set_traffic_target(target);
    const auto options = ReadSessionOptions(request, 7000);
    EXPECT_TRUE(absl::IsInvalidArgument(options.status())) << target;
    EXPECT_NE(options.status().message().find("traffic_target"),
              std::string::npos);
  }
}

TEST(SessionOptionsTest, NothingIsSharedOrLentWithoutCorrections) {
  v1::GenerateRequest request;
  request.set_corrected_blocks(0);
  request.set_shared_scan(true);
  request.set_lent_corrections(true);
  const auto options = ReadSessionOptions(request, 7000);
  ASSERT_TRUE(options.ok()) << options.status();
  EXPECT_FALSE(options->prefetch.shared_scan);
  EXPECT_FALSE(options->prefetch.budget.lends);
}

}  // namespace
}  // namespace forecache
