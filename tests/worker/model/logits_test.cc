// Our runtime with exact attention against llama.cpp, on the same weights and
// text, teacher-forced.
//
// Two right programs differ: the weights' products round their inputs to 8
// bits, which makes jumps of tiny differences, all of about one size whatever
// the cause.  How far llama.cpp is from itself, with keys and values in f16
// and f32 and its batches cut otherwise, is the yardstick.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "gtest/gtest.h"
#include "tests/worker/model/exact_pass.h"
#include "tests/worker/model/llama_reference.h"
#include "worker/model/model_runtime.h"
#include "worker/model/tokenizer.h"

namespace forecache {
namespace {

constexpr int kTokens = 256;
// Ours may be this much farther from llama.cpp than llama.cpp is from itself,
// for the spread is a sample.  With the same rounding in attention ours lies
// within it (0.96 and 0.97 of it measured, AVX-512); the service rounds less
// than llama.cpp's f16 and more than its f32, and lies just outside (1.07).
constexpr double kSlackSameRounding = 1.05;
constexpr double kSlack = 1.15;

double Rms(const std::vector<float>& a, const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    sum += (a[i] - b[i]) * (a[i] - b[i]);
  }
  return std::sqrt(sum / a.size());
}

double StandardDeviation(const std::vector<float>& a) {
  double sum = 0, squares = 0;
  for (const float x : a) {
    sum += x;
    squares += x * x;
  }
  return std::sqrt(squares / a.size() - sum / a.size() * (sum / a.size()));
}

// Threads: one thread at a time.
class LogitsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("FORECACHE_MODEL");
    if (path == nullptr) return;
    path_ = path;
    auto tokenizer = LoadTokenizer(path_);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    std::ifstream file("demo/text.txt");
    std::stringstream text;
    text << file.rdbuf();
    tokens_ = (*tokenizer)->Encode(text.str(), /*parse_special=*/false);
    ASSERT_GT(tokens_.size(), kTokens);
    tokens_.resize(kTokens);
    llama_f16_ = LlamaLogits(path_, tokens_, LlamaKv::kF16, kTokens);
    llama_f32_ = LlamaLogits(path_, tokens_, LlamaKv::kF32, kTokens);
    // llama.cpp's own spread: the farthest of its variants.
    const double f32 = Rms(llama_f16_, llama_f32_);
    const double single =
        Rms(llama_f16_, LlamaLogits(path_, tokens_, LlamaKv::kF16, 1));
    spread_ = std::max(f32, single);
    std::printf("llama.cpp's f16 KV against its own f32: rms %.4f, against "
                "batches of 1: %.4f; logits' deviation %.2f\n",
                f32, single, StandardDeviation(llama_f16_));
  }

  void SetUp() override {
    if (path_.empty()) GTEST_SKIP() << "FORECACHE_MODEL is not set";
  }

  // Logits of all tokens, in passes of `pass_tokens`.
  static std::vector<float> Ours(
      PrefillWeights weights, int pass_tokens,
      AttentionRounding rounding = AttentionRounding::kCached) {
    auto model = LoadGgmlModel({.path = path_,
                                .max_chunk_tokens = kTokens,
                                .prefill_threads = 1,
                                .decode_threads = 1,
                                .prefill_weights = weights});
    EXPECT_TRUE(model.ok()) << model.status();
    ExactPass pass(model->get(), rounding);
    std::vector<float> logits;
    for (int at = 0; at < kTokens; at += pass_tokens) {
      const int n = std::min(pass_tokens, kTokens - at);
      const std::vector<float> rows = pass.Run(
          std::span(tokens_).subspan(at, n), LogitRows::kAll);
      logits.insert(logits.end(), rows.begin(), rows.end());
    }
    return logits;
  }

  static std::string path_;
  static std::vector<int32_t> tokens_;
  static std::vector<float> llama_f16_, llama_f32_;
  static double spread_;
};

std::string LogitsTest::path_;
std::vector<int32_t> LogitsTest::tokens_;
std::vector<float> LogitsTest::llama_f16_;
std::vector<float> LogitsTest::llama_f32_;
double LogitsTest::spread_ = 0;

TEST_F(LogitsTest, SameRoundingIsWithinLlamasOwnSpread) {
  const double f16 =
      Rms(llama_f16_, Ours(PrefillWeights::kAsStored, kTokens,
                           AttentionRounding::kAllInputs));
  const double f32 =
      Rms(llama_f32_, Ours(PrefillWeights::kAsStored, kTokens,
                           AttentionRounding::kNothing));
  std::printf("ours with llama.cpp's rounding: f16 rms %.4f, f32 rms %.4f\n",
              f16, f32);
  EXPECT_LE(f16, kSlackSameRounding * spread_);
  EXPECT_LE(f32, kSlackSameRounding * spread_);
}

TEST_F(LogitsTest, OneChunkIsWithinLlamasOwnSpread) {
  const double rms =
      Rms(llama_f16_, Ours(PrefillWeights::kAsStored, kTokens));
  std::printf("ours against llama.cpp's f16: rms %.4f\n", rms);
  EXPECT_LE(rms, kSlack * spread_);
}

TEST_F(LogitsTest, SingleTokensAreWithinLlamasOwnSpread) {
  const double rms = Rms(llama_f16_, Ours(PrefillWeights::kAsStored, 1));
  std::printf("ours token by token: rms %.4f\n", rms);
  EXPECT_LE(rms, kSlack * spread_);
}

TEST_F(LogitsTest, Bf16WeightsAreWithinLlamasOwnSpread) {
  const std::vector<float> stored = Ours(PrefillWeights::kAsStored, 100);
  const std::vector<float> bf16 = Ours(PrefillWeights::kBf16, 100);
  std::printf("ours with BF16 weights in chunks of 100: rms %.4f; against "
              "ours as stored: %.4f\n",
              Rms(llama_f16_, bf16), Rms(stored, bf16));
  EXPECT_LE(Rms(llama_f16_, bf16), kSlack * spread_);
  EXPECT_LE(Rms(stored, bf16), kSlack * spread_);
}

TEST_F(LogitsTest, LastRowIsTheLastOfAllRows) {
  auto model = LoadGgmlModel({.path = path_, .prefill_threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokens = std::span(tokens_).first(50);
  const std::vector<float> all =
      ExactPass(model->get()).Run(tokens, LogitRows::kAll);
  const std::vector<float> last =
      ExactPass(model->get()).Run(tokens, LogitRows::kLast);
  ASSERT_EQ(last.size(), (*model)->config().vocabulary);
  ASSERT_EQ(all.size(), 50 * last.size());
  EXPECT_LT(Rms(last, {all.end() - last.size(), all.end()}), 0.3);
  EXPECT_TRUE(
      ExactPass(model->get()).Run(tokens, LogitRows::kNone).empty());
}

}  // namespace
}  // namespace forecache
