#include "worker/query_estimates.h"

#include <gtest/gtest.h>

namespace forecache {
namespace {

const std::vector<float> kQuery = {1, 2, -1, 0.5f};
const std::vector<float> kNear = {1.1f, 1.9f, -1, 0.4f};
const std::vector<float> kFar = {-1, 2, 1, 0.5f};

TEST(QueryEstimatesTest, TheFirstIsNotTrustedYet) {
  QueryEstimates estimates(3);
  EXPECT_FALSE(estimates.Take(1, kNear));
  EXPECT_FALSE(estimates.Meet(1, kQuery));
  EXPECT_GT(estimates.agreement(1), kQueryAgreementMin);
  EXPECT_TRUE(estimates.Take(1, kNear));
  EXPECT_TRUE(estimates.Meet(1, kQuery));
}

TEST(QueryEstimatesTest, LayersAreJudgedApart) {
  QueryEstimates estimates(3);
  for (int token = 0; token < 5; ++token) {
    EXPECT_FALSE(estimates.Take(1, kFar));
    EXPECT_FALSE(estimates.Meet(1, kQuery));
    EXPECT_EQ(estimates.Take(2, kNear), token > 0);
    EXPECT_EQ(estimates.Meet(2, kQuery), token > 0);
  }
  EXPECT_LT(estimates.agreement(1), kQueryAgreementMin);
}

TEST(QueryEstimatesTest, ALayerWithoutEstimateIsNotAhead) {
  QueryEstimates estimates(3);
  EXPECT_FALSE(estimates.Meet(0, kQuery));
  EXPECT_EQ(estimates.agreement(0), 0);
}

TEST(QueryEstimatesTest, TrustIsLostAndComesBack) {
  QueryEstimates estimates(2);
  for (int token = 0; token < 2; ++token) {
    estimates.Take(1, kNear);
    estimates.Meet(1, kQuery);
  }
  int until_lost = 0, until_back = 0;
  while (estimates.Take(1, kFar)) {
    estimates.Meet(1, kQuery);
    ++until_lost;
  }
  EXPECT_GT(until_lost, 0);
  EXPECT_LT(until_lost, 5);
  estimates.Meet(1, kQuery);
  while (!estimates.Take(1, kNear)) {
    estimates.Meet(1, kQuery);
    ++until_back;
  }
  EXPECT_LT(until_back, 50);
}

}  // namespace
}  // namespace forecache
