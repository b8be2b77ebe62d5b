#include "eval/policy.h"

#include <string>

#include "gtest/gtest.h"

namespace forecache::eval {
namespace {

TEST(PolicyTest, AllPartsReachTheRequest) {
  const auto policy = ParsePolicy("ema:0.1/5+c4@0.01+tail");
  ASSERT_TRUE(policy.ok()) << policy.status();
  v1::GenerateRequest request;
  policy->Describe(&request);
  EXPECT_EQ(request.predictor(), "ema");
  EXPECT_FLOAT_EQ(request.ema_alpha(), 0.1f);
  EXPECT_EQ(request.probe_every(), 5);
  EXPECT_EQ(request.correction_floor(), 0.01);
  EXPECT_EQ(request.corrected_blocks(), 4);
  EXPECT_FALSE(request.no_tail());
}

TEST(PolicyTest, WithoutModifiersNothingIsCorrectedAndThereIsNoTail) {
  const auto policy = ParsePolicy("last");
  ASSERT_TRUE(policy.ok()) << policy.status();
  v1::GenerateRequest request;
  policy->Describe(&request);
  EXPECT_TRUE(request.has_corrected_blocks());
  EXPECT_EQ(request.corrected_blocks(), 0);
  EXPECT_TRUE(request.no_tail());
}

TEST(PolicyTest, ATrafficTargetIsOffUnlessNamed) {
  v1::GenerateRequest request;
  ParsePolicy("ema+c+t3.5+shared+lent")->Describe(&request);
  EXPECT_EQ(request.traffic_target(), 3.5);
  EXPECT_TRUE(request.shared_scan());
  request.Clear();
  ParsePolicy("ema+c+t+shared+lent")->Describe(&request);
  EXPECT_FALSE(request.has_traffic_target());
  ParsePolicy("ema+c+shared+lent")->Describe(&request);
  EXPECT_TRUE(request.has_traffic_target());
  EXPECT_EQ(request.traffic_target(), 0);
}

TEST(PolicyTest, TheDefaultShareOfCorrectionsIsTheWorkers) {
  const auto policy = ParsePolicy("last+c");
  ASSERT_TRUE(policy.ok()) << policy.status();
  v1::GenerateRequest request;
  policy->Describe(&request);
  EXPECT_FALSE(request.has_corrected_blocks());
}

TEST(PolicyTest, DefaultAsksForNothing) {
  const auto policy = ParsePolicy("default");
  ASSERT_TRUE(policy.ok()) << policy.status();
  v1::GenerateRequest request;
  policy->Describe(&request);
  EXPECT_EQ(request.ByteSizeLong(), 0);
}

TEST(PolicyTest, WhatIsWrongIsNamed) {
  for (const std::string text :
       {"", "/5", "ema/0", "ema/x", "ema/5/5", "last+", "last+tail",
        "last+tails", "last+cx", "last+c-1", "last:2", "last+c4@x",
        "last+c4@0@0",
        "last+tx", "last+t-1", "last+t65"}) {
    const auto policy = ParsePolicy(text);
    ASSERT_FALSE(policy.ok()) << text;
    EXPECT_EQ(policy.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(policy.status().message().find("--policy: '" + text),
              std::string::npos)
        << policy.status();
  }
}

}  // namespace
}  // namespace forecache::eval
