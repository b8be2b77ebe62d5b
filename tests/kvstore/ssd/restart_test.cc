// The store's binary, killed and started again on its folder.
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/kvstore/context.h"
#include "tests/kvstore/daemon.h"

namespace forecache {
namespace {

const ModelFingerprint kModel{"00ff", "llama", kTestGeometry, 10000.0f};
constexpr int kSegments = 4;

// Compares every block that comes with what was put.
class CheckingSink : public BlockSink {
 public:
  explicit CheckingSink(const TestContext& context) : context_(context) {}
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    right += std::ranges::equal(
                 k, context_.Part(layer, entry.kv_head, entry.block, false)) &&
             std::ranges::equal(
                 v, context_.Part(layer, entry.kv_head, entry.block, true));
    ++came;
  }
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override {
    ++failed;
  }
  int right = 0, came = 0, failed = 0;

 private:
  const TestContext& context_;
};

std::vector<int32_t> TokensOf(const TestContext& context) {
  return {context.tokens().begin(), context.tokens().end()};
}

std::string FreshFolder(const std::string& name) {
  const std::string folder =
      std::string(std::getenv("TEST_TMPDIR")) + "/" + name;
  std::filesystem::remove_all(folder);
  return folder;
}

std::vector<std::string> Flags(const std::string& folder, int dram_mib = 64) {
  return {"--dram-mib=" + std::to_string(dram_mib), "--ssd-dir=" + folder,
          "--ssd-mib=32", "--transport-probe=off"};
}

// Puts and seals all of a context; returns how many segments are durable.
int FillDurably(Worker* worker, const TestContext& context) {
  const std::vector<int32_t> tokens = TokensOf(context);
  auto opened = worker->control.OpenSession(kModel, tokens, "fill");
  FC_CHECK_OK(opened.status());
  for (int layer : {0, 1}) {
    worker->Run(worker->client.PutBlocks(
        opened->handle, layer, 0, context.blocks(),
        context.PutPayload(layer, 0, context.blocks()), worker->Done()));
  }
  int durable = 0;
  for (int segment = 0; segment < kSegments; ++segment) {
    auto sealed = worker->control.SealDurably(
        opened->handle, segment,
        std::span(tokens).subspan(segment * kSegmentTokens, kSegmentTokens));
    FC_CHECK_OK(sealed.status());
    durable += *sealed;
  }
  return durable;
}

// Fetches all of a context and compares it.
void ExpectServed(Worker* worker, const TestContext& context) {
  auto opened =
      worker->control.OpenSession(kModel, TokensOf(context), "read");
  ASSERT_TRUE(opened.ok()) << opened.status();
  EXPECT_EQ(opened->cached_tokens, kSegments * kSegmentTokens);
  CheckingSink sink(context);
  const int blocks = opened->cached_tokens / kBlockTokens;
  for (int layer : {0, 1}) {
    worker->Run(worker->client
                    .Fetch(opened->handle, layer,
                           AllEntries(kTestGeometry, blocks), &sink,
                           worker->Done())
                    .status());
  }
  EXPECT_EQ(sink.right, 2 * 2 * kSegments * kSegmentBlocks);
  EXPECT_EQ(sink.came, sink.right);
  EXPECT_EQ(sink.failed, 0);
}

TEST(RestartTest, WhatIsDurableOutlivesKill) {
  const std::string folder = FreshFolder("kill");
  TestContext context(1, kSegments), other(2, kSegments);
  for (int round = 0; round < 2; ++round) {
    Daemon daemon(Flags(folder));
    const std::string ready = daemon.Ready();
    ASSERT_FALSE(ready.empty()) << daemon.Log();
    Worker worker(FieldOf(ready, "grpc"));
    if (round == 0) {
      EXPECT_EQ(FillDurably(&worker, context), kSegments);
    } else {
      EXPECT_EQ(FillDurably(&worker, other), kSegments);
      ExpectServed(&worker, context);
    }
    daemon.Signal(SIGKILL);
    EXPECT_EQ(daemon.Join(), -1);
  }
  // A smaller memory serves as well, from SSD.
  Daemon daemon(Flags(folder, 1));
  const std::string ready = daemon.Ready();
  ASSERT_FALSE(ready.empty()) << daemon.Log();
  Worker worker(FieldOf(ready, "grpc"));
  ExpectServed(&worker, context);
  ExpectServed(&worker, other);
  auto stats = worker.control.Stats();
  ASSERT_TRUE(stats.ok());
  EXPECT_EQ(stats->ssd_segments, 2 * kSegments);
  EXPECT_GT(stats->prefix_tokens_hit_ssd, 0);
}

TEST(RestartTest, AStopWritesWhatWaits) {
  const std::string folder = FreshFolder("stop");
  TestContext context(3, kSegments);
  {
    Daemon daemon(Flags(folder));
    const std::string ready = daemon.Ready();
    ASSERT_FALSE(ready.empty()) << daemon.Log();
    Worker worker(FieldOf(ready, "grpc"));
    FillDurably(&worker, context);
    daemon.Signal(SIGTERM);
    EXPECT_EQ(daemon.Join(), 0) << daemon.Log();
  }
  Daemon daemon(Flags(folder));
  Worker worker(FieldOf(daemon.Ready(), "grpc"));
  ExpectServed(&worker, context);
}

TEST(RestartTest, ASecondProcessIsRefused) {
  const std::string folder = FreshFolder("twice");
  Daemon first(Flags(folder));
  ASSERT_FALSE(first.Ready().empty()) << first.Log();
  Daemon second(Flags(folder));
  EXPECT_EQ(second.Join(), 3);
  EXPECT_NE(second.Log().find("another process uses it"), std::string::npos)
      << second.Log();
}

TEST(RestartTest, ANewerFormatIsRefused) {
  const std::string folder = FreshFolder("newer");
  std::filesystem::create_directory(folder);
  std::ofstream(folder + "/format") << "forecache-ssd 3 1048576\n";
  Daemon daemon(Flags(folder));
  EXPECT_EQ(daemon.Join(), 3);
  EXPECT_NE(daemon.Log().find("version 3"), std::string::npos)
      << daemon.Log();
}

}  // namespace
}  // namespace forecache
