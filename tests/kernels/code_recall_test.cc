// Codes of a real model's keys choose the blocks that hold the attention.
#include "bench/code_recall.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "worker/model/model_runtime.h"
#include "worker/model/tokenizer.h"

namespace forecache {
namespace {

constexpr int kTop = 8;  // of 64 blocks
constexpr int kQuerySpan = 256;
constexpr int kTokens = 4 * kCodePlaneTokens + kQuerySpan;

TEST(CodeRecallTest, TopBlocksHoldTheMassOfTheExactTop) {
  const char* path = std::getenv("FORECACHE_MODEL");
  if (path == nullptr) GTEST_SKIP() << "FORECACHE_MODEL is not set";
  std::ifstream file("demo/text.txt", std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  auto tokenizer = LoadTokenizer(path);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().ToString();
  std::vector<int32_t> tokens = (*tokenizer)->Encode(text, false);
  ASSERT_GE(tokens.size(), kTokens);
  tokens.resize(kTokens);
  auto model = LoadGgmlModel({.path = path,
                              .prefill_threads = 1,
                              .prefill_weights = PrefillWeights::kBf16});
  ASSERT_TRUE(model.ok()) << model.status().ToString();
  const auto capture = CaptureKeys(model->get(), tokens, kQuerySpan, 64);
  ASSERT_TRUE(capture.ok()) << capture.status().ToString();
  ASSERT_EQ(capture->tokens, 4 * kCodePlaneTokens);

  const CodeRecall four = MeasureCodeRecall(*capture, CodeKind::k4Bit, kTop);
  const double mean4 = CodeRecall::Mean(four.mass_share);
  const double worst4 = CodeRecall::Percentile(four.mass_share, 5);
  const CodeRecall two =
      MeasureCodeRecall(*capture, CodeKind::k2BitRotated, kTop);
  const double mean2 = CodeRecall::Mean(two.mass_share);
  const double worst2 = CodeRecall::Percentile(two.mass_share, 5);
  EXPECT_GE(mean4, 0.99) << worst4;
  EXPECT_GE(worst4, 0.97);
  EXPECT_GE(mean2, 0.97) << worst2;
  EXPECT_GE(worst2, 0.90);
  // Merged with exact scores from elsewhere, neither side must outweigh.
  EXPECT_NEAR(CodeRecall::Mean(four.lse_error), 0, 0.05);
  EXPECT_NEAR(CodeRecall::Mean(two.lse_error), 0, 0.15);
  std::printf("log-sum-exp error: 4 bits %.3f, 2 bits %.3f\n",
              CodeRecall::Mean(four.lse_error),
              CodeRecall::Mean(two.lse_error));
  RecordProperty("mass_share_4bit", std::to_string(mean4));
  RecordProperty("mass_share_2bit", std::to_string(mean2));
  std::printf("4 bits %.4f (worst 5 %%: %.4f), 2 bits %.4f (%.4f)\n", mean4,
              worst4, mean2, worst2);
}

}  // namespace
}  // namespace forecache
