#include "kvstore/segment_id.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "tests/kvstore/context.h"

namespace forecache {
namespace {

std::vector<uint32_t> Tokens() {
  std::vector<uint32_t> tokens(kSegmentTokens);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = i * 7;
  return tokens;
}

// Checked against Python's hmac and hashlib.
TEST(SegmentIdTest, Golden) {
  SegmentId id =
      MakeSegmentId(TenantSecret::FromPhrase("golden"),
                    ModelDigest::Of(TestModel()), kRootSegment, Tokens());
  EXPECT_EQ(id.ToHex(), "799f3fa2844011476297e440354bdc25");
}

TEST(SegmentIdTest, EveryInputCounts) {
  TenantSecret secret = TenantSecret::FromPhrase("a");
  ModelDigest model = ModelDigest::Of(TestModel());
  std::vector<uint32_t> tokens = Tokens();
  std::set<SegmentId> ids;
  SegmentId first = MakeSegmentId(secret, model, kRootSegment, tokens);
  ids.insert(first);
  ids.insert(MakeSegmentId(TenantSecret::FromPhrase("b"), model, kRootSegment,
                           tokens));
  ids.insert(MakeSegmentId(TenantSecret::Random(), model, kRootSegment,
                           tokens));
  ids.insert(MakeSegmentId(secret, model, first, tokens));
  for (int i : {0, 128, 255}) {
    std::vector<uint32_t> other = tokens;
    ++other[i];
    ids.insert(MakeSegmentId(secret, model, kRootSegment, other));
  }
  EXPECT_EQ(ids.size(), 7);
  EXPECT_EQ(MakeSegmentId(secret, model, kRootSegment, tokens), first);
}

TEST(ModelDigestTest, EveryFieldCounts) {
  std::vector<ModelIdentityFields> models(10, TestModel());
  models[1].weights_digest = "00fe";
  models[2].architecture = "qwen";
  models[3].geometry.layers = 3;
  models[4].geometry.kv_heads = 3;
  models[5].geometry.head_dim = 64;
  models[6].geometry.group = 3;
  models[7].geometry.type = KvType::kBF16;
  models[8].rope_base = 10001;
  models[9].layout_version = 2;
  // The same characters, cut elsewhere.
  models.push_back(TestModel());
  models.back().weights_digest = "00";
  models.back().architecture = "ffllama";
  std::set<std::array<uint8_t, 32>> digests;
  for (const auto& model : models) digests.insert(ModelDigest::Of(model).bytes);
  EXPECT_EQ(digests.size(), models.size());
}

TEST(GeometryTest, ValidateNamesTheField) {
  struct Case {
    KvGeometry geometry;
    std::string field;
  };
  KvGeometry good = kTestGeometry;
  EXPECT_EQ(good.Validate(), absl::OkStatus());
  std::vector<Case> cases(6, {good, ""});
  cases[0] = {good, "layers"};
  cases[0].geometry.layers = 257;
  cases[1] = {good, "kv_heads"};
  cases[1].geometry.kv_heads = 0;
  cases[2] = {good, "head_dim"};
  cases[2].geometry.head_dim = 24;
  cases[3] = {good, "group"};
  cases[3].geometry.group = 33;
  cases[4] = {good, "kv_type"};
  cases[4].geometry.type = static_cast<KvType>(3);
  cases[5] = {good, "head_dim"};
  cases[5].geometry.head_dim = 272;
  for (const Case& c : cases) {
    absl::Status status = c.geometry.Validate();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_NE(status.message().find(c.field), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace forecache
