#include "eval/texts.h"

#include <cstdlib>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace forecache::eval {
namespace {

TextOptions Options() {
  TextOptions options{.facts = "eval/facts.json", .tokens = 2048,
                      .decoded = 64};
  if (const char* data = std::getenv("FORECACHE_DATA")) options.data = data;
  return options;
}

class TextsTest : public testing::Test {
 protected:
  void SetUp() override {
    const char* model = std::getenv("FORECACHE_MODEL");
    if (model == nullptr) GTEST_SKIP() << "FORECACHE_MODEL is not set";
    auto tokenizer = LoadTokenizer(model);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(TextsTest, EveryTextHasItsLengthAndItsAnswersInIt) {
  const TextOptions options = Options();
  if (options.data.empty()) GTEST_SKIP() << "FORECACHE_DATA is not set";
  for (const std::string& name : TextNames()) {
    const auto text = LoadText(name, options, *tokenizer_);
    ASSERT_TRUE(text.ok()) << name << ": " << text.status();
    for (const Case& one : text->cases) {
      const size_t tokens = tokenizer_->Encode(one.prompt, false).size() +
                            tokenizer_->Encode(one.forced, false).size();
      EXPECT_LE(tokens, options.tokens + 300u) << name;
      EXPECT_GE(tokens, options.tokens - 700u) << name;
      EXPECT_TRUE(!one.forced.empty() || !one.questions.empty()) << name;
      for (const Question& question : one.questions) {
        EXPECT_NE(one.prompt.find(question.answer), std::string::npos)
            << name << ": " << question.answer;
      }
    }
  }
}

TEST_F(TextsTest, AFolderIsReadInTheOrderOfItsNames) {
  const std::string folder = testing::TempDir() + "/texts";
  ASSERT_EQ(std::system(("mkdir -p " + folder).c_str()), 0);
  std::string words;
  for (int i = 0; i < 3000; ++i) words += " word" + std::to_string(i);
  std::ofstream(folder + "/b.txt") << words;
  std::ofstream(folder + "/a.txt") << "The beginning.";
  const auto text = LoadText(folder, Options(), *tokenizer_);
  ASSERT_TRUE(text.ok()) << text.status();
  EXPECT_EQ(text->cases[0].prompt.rfind("The beginning.", 0), 0u);
}

TEST_F(TextsTest, WhatIsMissingIsNamed) {
  TextOptions options = Options();
  EXPECT_EQ(LoadText("poetry", options, *tokenizer_).status().code(),
            absl::StatusCode::kInvalidArgument);
  options.data = "/nowhere";
  EXPECT_EQ(LoadText("novel", options, *tokenizer_).status().code(),
            absl::StatusCode::kNotFound);
  options.data = "";
  EXPECT_EQ(LoadText("maths", options, *tokenizer_).status().code(),
            absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace forecache::eval
