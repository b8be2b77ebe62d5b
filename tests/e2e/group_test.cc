// One worker over several stores.
#include <signal.h>

#include <string>

#include "common/clock.h"
#include "tests/e2e/fixture.h"

namespace forecache::e2e {
namespace {

// About sixteen segments.  Ports, and with them places, differ from run to run:
// fewer would all go to one store now and then.
constexpr size_t kTextBytes = 16'000;

class GroupTest : public DaemonTest {
 protected:
  // `stores` stores, and a worker over all of them.
  void Start(int stores) {
    std::string list;
    for (int i = 0; i < stores; ++i) {
      auto store = processes()->Start("store-" + std::to_string(i),
                                      kStoreBinary, {"--dram-mib", "256"});
      ASSERT_TRUE(store.ok()) << store.status();
      stores_.push_back(*store);
      list += (i == 0 ? "" : ",") + store->grpc;
    }
    auto worker =
        processes()->Start("group-worker", kWorkerBinary,
                           {"--store", list, "--model", ModelPath()});
    ASSERT_TRUE(worker.ok()) << worker.status();
    worker_ = *worker;
    client_ = std::make_unique<demo::Client>(worker_.grpc, stores_[0].grpc);
  }

  absl::StatusOr<demo::Answer> Answer(const v1::GenerateRequest& request) {
    return client_->Generate(request, [](const v1::GenerateEvent&) {});
  }

  // The value of a metric's line in the worker's text, 0 without one.
  double Metric(const std::string& line) {
    const std::string text = demo::FetchMetrics(worker_.metrics);
    const size_t at = text.find("\n" + line + " ");
    return at == std::string::npos
               ? 0
               : std::stod(text.substr(at + 1 + line.size()));
  }

  std::vector<demo::Daemon> stores_;
  demo::Daemon worker_;
  std::unique_ptr<demo::Client> client_;
};

TEST_F(GroupTest, TwoStoresAnswerAsOneDoes) {
  const auto request = Request(StoryText(kTextBytes), v1::EXACT);
  StartBoth();
  if (IsSkipped() || HasFatalFailure()) return;
  const auto one = Generate(request);
  ASSERT_TRUE(one.ok()) << one.status();
  Start(2);
  const auto two = Answer(request);
  ASSERT_TRUE(two.ok()) << two.status();
  EXPECT_EQ(two->text, one->text);
  EXPECT_EQ(two->summary.nll_sum(), one->summary.nll_sum());
  for (const demo::Daemon& store : stores_) {
    const auto stats = demo::Client(worker_.grpc, store.grpc).StoreStats();
    ASSERT_TRUE(stats.ok()) << stats.status();
    EXPECT_GT(stats->segments(), 0u);
    EXPECT_EQ(stats->open_segments(), 0u);
    EXPECT_EQ(stats->sessions(), 0u);
  }
  // The union of what both hold is the prefix.
  const auto again = Answer(request);
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ(again->summary.cached_tokens(), one->summary.prompt_tokens() /
                                                256 * 256);
  EXPECT_EQ(again->text, one->text);
}

TEST_F(GroupTest, ADeadStoreCostsItsBlocksAndNotTheAnswer) {
  Start(2);
  if (IsSkipped() || HasFatalFailure()) return;
  auto request = Request(StoryText(kTextBytes), v1::SPARSE);
  request.set_max_tokens(40);
  for (const auto policy : {v1::SKIP, v1::WAIT}) {
    request.set_late_policy(policy);
    int tokens = 0;
    Nanos killed_at = 0;
    const auto answer =
        client_->Generate(request, [&](const v1::GenerateEvent& event) {
          if (!event.has_token() || ++tokens != 5 || policy != v1::SKIP) return;
          kill(stores_[1].pid, SIGKILL);
          killed_at = Clock::Real()->Now();
        });
    ASSERT_TRUE(answer.ok()) << answer.status();
    EXPECT_GE(answer->summary.decoded_tokens(), 5u);
    EXPECT_EQ(answer->summary.wrong_blocks(), 0u);
    if (killed_at > 0) {
      EXPECT_LT(Clock::Real()->Now() - killed_at, 20 * kSecond);
    }
  }
  EXPECT_GE(Metric("forecache_worker_store_events_total{event=\"lost\"}"), 1);
  EXPECT_GE(Metric("forecache_worker_blocks_unavailable_total") +
                Metric("forecache_worker_probes_partial_total"),
            1);
}

// What a paused store owes when an answer ends comes, or fails, when nobody
// waits for it any more: many tokens' worth, since `skip` waits for none.
TEST_F(GroupTest, WhatAPausedStoreOwesOutlivesTheAnswer) {
  Start(2);
  if (IsSkipped() || HasFatalFailure()) return;
  auto request = Request(StoryText(kTextBytes), v1::SPARSE);
  request.set_max_tokens(40);
  request.set_late_policy(v1::SKIP);
  for (const int then : {SIGCONT, SIGKILL}) {
    int tokens = 0;
    const auto answer =
        client_->Generate(request, [&](const v1::GenerateEvent& event) {
          if (event.has_token() && ++tokens == 5) {
            kill(stores_[1].pid, SIGSTOP);
          }
        });
    ASSERT_TRUE(answer.ok()) << answer.status();
    kill(stores_[1].pid, then);
    const auto next = Answer(request);
    ASSERT_TRUE(next.ok()) << next.status();
    EXPECT_EQ(next->summary.wrong_blocks(), 0u);
  }
}

TEST_F(GroupTest, AStoreNamedTwiceIsRefused) {
  const Ended ended = RunToEnd({kWorkerBinary, "--model", ModelPath(),
                                "--store", "127.0.0.1:1", "--store",
                                "127.0.0.1:1"},
                               10);
  EXPECT_EQ(ended.exit_code, 2);
  EXPECT_NE(ended.output.find("names a store twice"), std::string::npos)
      << ended.output;
}

}  // namespace
}  // namespace forecache::e2e
