// Both daemons, a real model and text: what a request gets.

#include <cstdio>
#include <cstdlib>

#include "tests/e2e/fixture.h"

namespace forecache::e2e {
namespace {

constexpr size_t kTextBytes = 3500;  // about 850 tokens, 54 blocks

using AnswerTest = DaemonTest;

TEST_F(AnswerTest, SecondRequestFindsThePrefixInTheStore) {
  StartBoth();
  const auto request = Request(StoryText(kTextBytes), v1::EXACT);
  const auto cold = Generate(request);
  ASSERT_TRUE(cold.ok()) << cold.status();
  const auto warm = Generate(request);
  ASSERT_TRUE(warm.ok()) << warm.status();
  EXPECT_EQ(cold->summary.cached_tokens(), 0u);
  const uint32_t whole_segments = cold->summary.prompt_tokens() / 256 * 256;
  EXPECT_EQ(warm->summary.cached_tokens(), whole_segments);
  EXPECT_EQ(warm->text, cold->text);
  EXPECT_LT(warm->summary.first_token_seconds(),
            cold->summary.first_token_seconds() / 2);
}

TEST_F(AnswerTest, WholeBudgetSparseEqualsExact) {
  StartBoth();
  const std::string text = StoryText(kTextBytes);
  const auto exact = Generate(Request(text, v1::EXACT));
  ASSERT_TRUE(exact.ok()) << exact.status();
  auto request = Request(text, v1::SPARSE);
  request.set_budget_blocks(64);  // with room for what is decoded
  const auto sparse = Generate(request);
  ASSERT_TRUE(sparse.ok()) << sparse.status();
  EXPECT_EQ(sparse->text, exact->text);
}

TEST_F(AnswerTest, SparseStaysWithinItsBudgetAndItsWords) {
  StartBoth();
  auto request = Request(StoryText(kTextBytes), v1::SPARSE);
  request.set_budget_blocks(12);
  // Across several block boundaries, so that new blocks are opened and put.
  request.set_max_tokens(70);
  const auto answer = Generate(request);
  ASSERT_TRUE(answer.ok()) << answer.status();
  const v1::Summary& s = answer->summary;
  EXPECT_LE(s.resident_bytes(), 12u * 30 * 3 * 4096);
  EXPECT_GT(s.resident_bytes(), 6u * 30 * 3 * 4096);
  EXPECT_GT(s.corrected(), 0u);
  EXPECT_GT(s.tail_bytes(), 0u);
  EXPECT_EQ(s.wrong_blocks(), 0u);
  EXPECT_EQ(s.refused(), 0u);
  EXPECT_GT(s.predicted(), 0u);
  EXPECT_EQ(s.in_time() + s.late(), s.predicted());
  EXPECT_GE(s.blocks_put(), (s.decoded_tokens() - 1) / 16 * 90);
}

TEST_F(AnswerTest, ArenaOfExactlyOneBudgetIsEnough) {
  // 30 layers x 3 KV heads x 4 KiB x 34 blocks = 11.95 MiB.
  StartBoth({}, {"--arena-mib", "12"});
  auto request = Request(StoryText(kTextBytes), v1::SPARSE);
  request.set_budget_blocks(34);
  const auto fits = Generate(request);
  EXPECT_TRUE(fits.ok()) << fits.status();
  request.set_budget_blocks(35);
  const auto refused = Generate(request);
  EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
  EXPECT_NE(refused.status().message().find("--arena-mib"), std::string::npos)
      << refused.status();
}

TEST_F(AnswerTest, LatePoliciesAllAnswer) {
  StartBoth();
  for (const auto policy : {v1::WAIT, v1::SKIP, v1::STRICT}) {
    auto request = Request(StoryText(kTextBytes), v1::SPARSE);
    request.set_late_policy(policy);
    const auto answer = Generate(request);
    ASSERT_TRUE(answer.ok()) << v1::LatePolicy_Name(policy) << answer.status();
    EXPECT_EQ(answer->summary.wrong_blocks(), 0u);
  }
}

TEST_F(AnswerTest, WithoutThePushBlocksAreLate) {
  StartBoth();
  auto request = Request(StoryText(kTextBytes), v1::SPARSE);
  request.set_no_prefetch(true);
  request.set_corrected_blocks(0);  // there are none without the push
  const auto cut = Generate(request);
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_GT(cut->summary.late(), 0u);
  EXPECT_EQ(cut->summary.in_time(), 0u);
  // Late, not lost: waiting for them gives the same answer.
  request.set_no_prefetch(false);
  const auto pushed = Generate(request);
  ASSERT_TRUE(pushed.ok()) << pushed.status();
  EXPECT_EQ(cut->text, pushed->text);
}

TEST_F(AnswerTest, StoreAndWorkerCountTheSame) {
  StartBoth();
  const auto answer = Generate(Request(StoryText(kTextBytes), v1::SPARSE));
  ASSERT_TRUE(answer.ok()) << answer.status();
  const auto worker = client()->Describe();
  const auto store = client()->StoreStats();
  ASSERT_TRUE(worker.ok() && store.ok());
  EXPECT_GT(store->blocks_pushed(), 0u);
  EXPECT_EQ(store->blocks_put(), worker->blocks_put());
  EXPECT_EQ(store->blocks_pushed(), worker->blocks_received());
  EXPECT_EQ(store->bytes_pushed(), worker->bytes_received());
  EXPECT_EQ(store->probes(), worker->probes());
}

TEST_F(AnswerTest, WorksOverTcp) {
  StartBoth({"--transports", "tcp"}, {"--transports", "tcp"});
  const auto answer = Generate(Request(StoryText(kTextBytes), v1::SPARSE));
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->summary.transport(), "tcp");
  EXPECT_EQ(answer->summary.wrong_blocks(), 0u);
}

TEST_F(AnswerTest, ShortPromptsOfEveryShape) {
  StartBoth();
  for (const size_t bytes : {1, 20, 60, 70, 300, 1000}) {
    for (const auto mode : {v1::EXACT, v1::SPARSE}) {
      const auto answer = Generate(Request(StoryText(bytes), mode));
      ASSERT_TRUE(answer.ok()) << bytes << " bytes: " << answer.status();
      EXPECT_GT(answer->summary.decoded_tokens(), 0u);
    }
  }
}

TEST_F(AnswerTest, PromtoolFindsNothing) {
  if (std::system("promtool --version >/dev/null 2>&1") != 0) {
    GTEST_SKIP() << "promtool is not installed";
  }
  StartBoth();
  ASSERT_TRUE(Generate(Request(StoryText(2000), v1::SPARSE)).ok());
  for (const demo::Daemon& daemon : {store(), worker()}) {
    const std::string text = demo::FetchMetrics(daemon.metrics);
    EXPECT_NE(text.find("forecache_" + daemon.name), std::string::npos);
    FILE* promtool = popen("promtool check metrics 2>&1", "w");
    ASSERT_NE(promtool, nullptr);
    fwrite(text.data(), 1, text.size(), promtool);
    EXPECT_EQ(pclose(promtool), 0) << daemon.name << "\n" << text;
  }
}

}  // namespace
}  // namespace forecache::e2e
