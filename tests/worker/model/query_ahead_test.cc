// The estimate of a later layer's query.

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <vector>

#include "worker/model/model_runtime.h"

namespace forecache {
namespace {

double Cosine(const std::vector<float>& a, std::span<const float> b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double(a[i]) * b[i];
    aa += double(a[i]) * a[i];
    bb += double(b[i]) * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

TEST(QueryAheadTest, PointsWhereTheQueryWillPoint) {
  const char* path = std::getenv("FORECACHE_MODEL");
  if (path == nullptr) GTEST_SKIP() << "FORECACHE_MODEL is not set";
  auto model = LoadGgmlModel({.path = path});
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = (*model)->config();
  const int32_t token = 1000;
  auto qkv = (*model)->Begin({&token, 1}, 7);
  ASSERT_TRUE(qkv.ok());
  std::vector<std::vector<float>> ahead;
  double sum = 0;
  int compared = 0;
  for (int layer = 0;; ++layer) {
    const bool has = layer + kQueryAheadLayers < config.layers;
    EXPECT_EQ(qkv->q_ahead.size(), has ? qkv->q.size() : 0u) << layer;
    if (layer >= kQueryAheadLayers) {
      sum += Cosine(ahead[layer - kQueryAheadLayers], qkv->q);
      ++compared;
    }
    ahead.emplace_back(qkv->q_ahead.begin(), qkv->q_ahead.end());
    if (layer + 1 == config.layers) break;
    // One token attends to itself: the output is its value.
    std::vector<float> attention;
    for (int head = 0; head < config.query_heads; ++head) {
      const auto v = qkv->v.subspan(
          size_t(head) / config.group() * config.head_dim, config.head_dim);
      attention.insert(attention.end(), v.begin(), v.end());
    }
    qkv = (*model)->Next(attention);
    ASSERT_TRUE(qkv.ok());
  }
  EXPECT_GT(sum / compared, 0.8);
}

TEST(QueryAheadTest, OnlyInPassesOfOneToken) {
  const char* path = std::getenv("FORECACHE_MODEL");
  if (path == nullptr) GTEST_SKIP() << "FORECACHE_MODEL is not set";
  auto model = LoadGgmlModel({.path = path});
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<int32_t> tokens = {1000, 1001};
  const auto qkv = (*model)->Begin(tokens, 0);
  ASSERT_TRUE(qkv.ok());
  EXPECT_TRUE(qkv->q_ahead.empty());
}

}  // namespace
}  // namespace forecache
