// The runtime on tiny models: what it refuses, and that its answers do not
// depend on how a pass is cut.
#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/limits.h"
#include "gtest/gtest.h"
#include "tests/worker/model/exact_pass.h"
#include "tests/worker/model/tiny_model.h"
#include "worker/model/model_runtime.h"
#include "worker/model/tokenizer.h"

namespace forecache {
namespace {

std::string PathOf(const std::string& name) {
  return testing::TempDir() + "/" + name + ".gguf";
}

std::string Written(const TinyModel& model) {
  const std::string path = PathOf("tiny");
  WriteTinyModel(model, path);
  return path;
}

absl::StatusOr<std::unique_ptr<ModelRuntime>> Load(const std::string& path) {
  return LoadGgmlModel(
      {.path = path, .max_chunk_tokens = 32, .prefill_threads = 1});
}

// Expects an error whose message holds all of `words`.
void ExpectRefused(const absl::Status& status, absl::StatusCode code,
                   const std::vector<std::string>& words) {
  EXPECT_EQ(status.code(), code) << status;
  for (const std::string& word : words) {
    EXPECT_NE(status.message().find(word), absl::string_view::npos)
        << "\"" << word << "\" is not in: " << status;
  }
}

std::vector<float> Logits(const TinyModel& tiny, int pass_tokens) {
  auto model = Load(Written(tiny));
  EXPECT_TRUE(model.ok()) << model.status();
  std::vector<int32_t> tokens;
  for (int i = 0; i < 24; ++i) tokens.push_back((i * 7 + 3) % 50);
  ExactPass pass(model->get());
  std::vector<float> logits;
  for (int at = 0; at < 24; at += pass_tokens) {
    const auto rows = pass.Run(std::span(tokens).subspan(at, pass_tokens),
                               LogitRows::kAll);
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  return logits;
}

float LargestDifference(const std::vector<float>& a,
                        const std::vector<float>& b) {
  EXPECT_EQ(a.size(), b.size());
  float largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::fabs(a[i] - b[i]));
  }
  return largest;
}

TEST(GgmlModelTest, SaysWhatItIs) {
  const auto model = Load(Written({}));
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelConfig& config = (*model)->config();
  EXPECT_EQ(config.architecture, "llama");
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.group(), 2);
  EXPECT_EQ(config.head_dim, 16);
  EXPECT_EQ(config.vocabulary, 50);
  EXPECT_EQ(config.context_tokens, 128);
  EXPECT_EQ(config.weights_digest.size(), 64u);
  const auto other = Load(Written({.seed = 2}));
  ASSERT_TRUE(other.ok()) << other.status();
  EXPECT_NE((*other)->config().weights_digest, config.weights_digest);
}

TEST(GgmlModelTest, PassesMayBeCutAnyhow) {
  const std::vector<float> whole = Logits({}, 24);
  for (const int pass_tokens : {12, 8, 6, 4, 3, 2, 1}) {
    EXPECT_LT(LargestDifference(whole, Logits({}, pass_tokens)), 1e-2)
        << pass_tokens;
  }
}

// More sizes than are kept: graphs are dropped and built again.
TEST(GgmlModelTest, ManyPassSizes) {
  auto model = Load(Written({}));
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<int32_t> tokens(32, 7);
  std::vector<std::vector<float>> first;
  for (int round = 0; round < 2; ++round) {
    for (int n = 1; n <= 2 * kPassSizesMax; ++n) {
      ExactPass pass(model->get());
      const auto logits =
          pass.Run(std::span(tokens).first(n), LogitRows::kLast);
      if (round == 0) {
        first.push_back(logits);
      } else {
        EXPECT_EQ(logits, first[n - 1]) << n;
      }
    }
  }
}

TEST(GgmlModelTest, OptionalTensorsCount) {
  const std::vector<float> plain = Logits({}, 24);
  EXPECT_GT(LargestDifference(plain, Logits({.biases = true}, 24)), 0.1);
  EXPECT_GT(LargestDifference(plain, Logits({.untied_output = true}, 24)),
            0.1);
  EXPECT_EQ(LargestDifference(plain, Logits({.rope_factors = true}, 24)), 0);
}

TEST(GgmlModelTest, BadTokensNameTheLimit) {
  auto model = Load(Written({}));
  ASSERT_TRUE(model.ok()) << model.status();
  const auto begin = [&](std::vector<int32_t> tokens, int position) {
    return (*model)->Begin(tokens, position).status();
  };
  const auto invalid = absl::StatusCode::kInvalidArgument;
  ExpectRefused(begin({3, 50}, 0), invalid, {"token 50", "vocabulary is 50"});
  ExpectRefused(begin({-1}, 0), invalid, {"token -1"});
  ExpectRefused(begin({}, 0), invalid, {"0 tokens", "max_chunk_tokens is 32"});
  ExpectRefused(begin(std::vector<int32_t>(33, 1), 0), invalid,
                {"33 tokens", "max_chunk_tokens is 32"});
  ExpectRefused(begin({1, 2}, 127), invalid,
                {"position 127", "context_tokens is 128"});
  ExpectRefused(begin({1}, -1), invalid, {"position -1"});
  EXPECT_TRUE(begin({1}, 127).ok());
}

TEST(GgmlModelTest, MissingFile) {
  const std::string path = PathOf("no-such-model");
  ExpectRefused(Load(path).status(), absl::StatusCode::kNotFound, {path});
  ExpectRefused(LoadTokenizer(path).status(), absl::StatusCode::kNotFound,
                {path});
  ExpectRefused(Load(testing::TempDir()).status(),
                absl::StatusCode::kInvalidArgument, {"not a regular file"});
}

TEST(GgmlModelTest, TruncatedFiles) {
  const std::string path = Written({});
  const auto whole = std::filesystem::file_size(path);
  for (const uintmax_t bytes :
       {uintmax_t{0}, uintmax_t{3}, uintmax_t{4}, uintmax_t{20},
        uintmax_t{100}, uintmax_t{500}, uintmax_t{1500}, whole / 2,
        whole - 300}) {
    ASSERT_LT(bytes, whole);
    const std::string cut = PathOf("cut");
    std::filesystem::copy_file(
        path, cut, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(cut, bytes);
    SCOPED_TRACE(bytes);
    ExpectRefused(Load(cut).status(), absl::StatusCode::kDataLoss, {cut});
    ExpectRefused(LoadTokenizer(cut).status(), absl::StatusCode::kDataLoss,
                  {cut});
  }
}

TEST(GgmlModelTest, Garbage) {
  const std::string path = PathOf("garbage");
  std::ofstream(path) << "This is a letter, not a model.";
  ExpectRefused(Load(path).status(), absl::StatusCode::kDataLoss,
                {path, "not a GGUF file"});
  std::ofstream(path) << "GGUF" << std::string(300, '\x5a');
  ExpectRefused(Load(path).status(), absl::StatusCode::kDataLoss, {path});
}

TEST(GgmlModelTest, OtherModelsAreNamed) {
  const auto unimplemented = absl::StatusCode::kUnimplemented;
  ExpectRefused(Load(Written({.architecture = "mamba"})).status(),
                unimplemented, {"\"mamba\"", "\"llama\""});
  ExpectRefused(Load(Written({.experts = 8})).status(), unimplemented,
                {"8 experts"});
  ExpectRefused(Load(Written({.rope_scaling = "yarn"})).status(),
                unimplemented, {"\"yarn\"", "\"linear\""});
  ExpectRefused(Load(Written({.hidden = 32})).status(), unimplemented,
                {"heads of 8"});
}

TEST(GgmlModelTest, MissingAndMisshapenParts) {
  const auto data_loss = absl::StatusCode::kDataLoss;
  for (const std::string field :
       {"llama.block_count", "llama.embedding_length",
        "llama.attention.layer_norm_rms_epsilon"}) {
    ExpectRefused(Load(Written({.left_out_field = field})).status(), data_loss,
                  {"lacks the field", field});
  }
  for (const std::string tensor :
       {"token_embd.weight", "blk.1.attn_k.weight", "output_norm.weight"}) {
    ExpectRefused(Load(Written({.left_out_tensor = tensor})).status(),
                  data_loss, {"lacks the tensor", tensor});
  }
  ExpectRefused(
      Load(Written({.misshapen_tensor = "blk.0.ffn_up.weight"})).status(),
      data_loss, {"blk.0.ffn_up.weight", "65 x 96", "not 64 x 96"});
}

TEST(GgmlModelTest, BadOptions) {
  const std::string path = Written({});
  const auto invalid = absl::StatusCode::kInvalidArgument;
  ExpectRefused(LoadGgmlModel({.path = path, .max_chunk_tokens = 0}).status(),
                invalid, {"max_chunk_tokens is 0"});
  ExpectRefused(LoadGgmlModel({.path = path, .decode_threads = 0}).status(),
                invalid, {"0 threads"});
}

}  // namespace
}  // namespace forecache
