#include "worker/model/tokenizer.h"

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace forecache {
namespace {

// Threads: one thread at a time.
class TokenizerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("FORECACHE_MODEL");
    if (path == nullptr) return;
    auto tokenizer = LoadTokenizer(path);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = tokenizer->release();
  }
  static void TearDownTestSuite() { delete tokenizer_; }
  void SetUp() override {
    if (tokenizer_ == nullptr) GTEST_SKIP() << "FORECACHE_MODEL is not set";
  }

  static Tokenizer* tokenizer_;
};

Tokenizer* TokenizerTest::tokenizer_ = nullptr;

TEST_F(TokenizerTest, RoundTrips) {
  for (const std::string text :
       {"", " ", "Hello, world!", "  two  spaces , and a comma .",
        "line\n\n\tbreaks\r\n", "na\xC3\xAFve caf\xC3\xA9 \xE2\x82\xAC 12,345",
        "\xE6\xBC\xA2\xE5\xAD\x97 \xF0\x9F\x90\xBA", "don't I'm we'll",
        "<|im_start|>user"}) {
    for (const bool parse_special : {false, true}) {
      EXPECT_EQ(tokenizer_->Decode(tokenizer_->Encode(text, parse_special)),
                text);
    }
  }
}

TEST_F(TokenizerTest, BytesThatAreNotUtf8AreReplaced) {
  EXPECT_EQ(tokenizer_->Decode(tokenizer_->Encode("\xFF ok", false)),
            "\xEF\xBF\xBD ok");
}

TEST_F(TokenizerTest, DecodesInPieces) {
  const std::string text = "A wolf, \xF0\x9F\x90\xBA, ran past.";
  std::string pieces;
  for (const int32_t token : tokenizer_->Encode(text, false)) {
    pieces += tokenizer_->Decode({&token, 1});
  }
  EXPECT_EQ(pieces, text);
}

TEST_F(TokenizerTest, SpecialTokens) {
  const std::string text = "<|im_end|>";
  const auto special = tokenizer_->Encode(text, true);
  ASSERT_EQ(special.size(), 1u);
  EXPECT_TRUE(tokenizer_->IsEndOfText(special[0]));
  // A user who types it must not end the turn.
  for (const int32_t token : tokenizer_->Encode(text, false)) {
    EXPECT_FALSE(tokenizer_->IsEndOfText(token));
  }
  EXPECT_EQ(tokenizer_->vocabulary(), 49152);
  EXPECT_FALSE(tokenizer_->IsEndOfText(-1));
  EXPECT_FALSE(tokenizer_->IsEndOfText(tokenizer_->vocabulary()));
}

TEST_F(TokenizerTest, AddsNothing) {
  EXPECT_TRUE(tokenizer_->Encode("", true).empty());
  EXPECT_EQ(tokenizer_->Encode("wolf", true),
            tokenizer_->Encode("wolf", false));
}

TEST_F(TokenizerTest, ChatTemplate) {
  const std::vector<ChatMessage> messages = {{"system", "Be brief."},
                                             {"user", "Who is there?"}};
  const auto prompt = tokenizer_->ApplyChatTemplate(messages);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_EQ(*prompt,
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\nWho is there?<|im_end|>\n"
            "<|im_start|>assistant\n");
}

TEST_F(TokenizerTest, LongConversation) {
  const std::string content(100'000, 'w');
  const std::vector<ChatMessage> messages(20, {"user", content});
  const auto prompt = tokenizer_->ApplyChatTemplate(messages);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  EXPECT_GT(prompt->size(), 20 * content.size());
}

TEST_F(TokenizerTest, ManyThreads) {
  const std::string text = "The hounds gave tongue at intervals.";
  const auto expected = tokenizer_->Encode(text, false);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int j = 0; j < 200; ++j) {
        EXPECT_EQ(tokenizer_->Encode(text, false), expected);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace forecache
