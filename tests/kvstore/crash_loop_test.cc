// The store's binary, killed (SIGKILL) at random moments of a mixed load, and
// stopped for a while (SIGSTOP): what it called durable is there, and nothing
// that comes is wrong.
//
// FORECACHE_CRASH_ROUNDS kills (20), FORECACHE_PAUSE_SECONDS of SIGSTOP (2);
// FORECACHE_CRASH_SEED chooses the moments.
#include <gtest/gtest.h>
#include <poll.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>

#include "common/limits.h"
#include "common/rng.h"
#include "tests/kvstore/context.h"
#include "tests/kvstore/daemon.h"
#include "tests/kvstore/mortal_store_client.h"

namespace forecache {
namespace {

const ModelFingerprint kModel{"00ff", "llama", kTestGeometry, 10000.0f};
constexpr int kSegments = 2;          // of a context
constexpr int kLongestLifeMs = 400;   // of a store, from its first load on
constexpr int kRecentContexts = 30;   // looked at after each start
constexpr int kOlderContexts = 10;    // and so many of the others
constexpr int kContextsARound = 12;   // on average at most: the SSD has room

int64_t FromEnvironment(const char* name, int64_t fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : std::atoll(value);
}

std::vector<int32_t> TokensOf(const TestContext& context) {
  return {context.tokens().begin(), context.tokens().end()};
}

// Compares every block that comes with what was put.
//
// Threads: one thread.
class CheckingSink : public BlockSink {
 public:
  explicit CheckingSink(const TestContext& context) : context_(context) {}
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    const bool is_right =
        std::ranges::equal(
            k, context_.Part(layer, entry.kv_head, entry.block, false)) &&
        std::ranges::equal(
            v, context_.Part(layer, entry.kv_head, entry.block, true));
    ++(is_right ? right : wrong);
  }
  void OnBlockFailed(int, const wire::FetchEntry&,
                     const absl::Status& why) override {
    ++failed;
    reason = why;
  }
  int right = 0, wrong = 0, failed = 0;
  absl::Status reason;

 private:
  const TestContext& context_;
};

absl::Status PutSegment(MortalStoreClient* client, const SessionHandle& session,
                        const TestContext& context, int layer, int segment) {
  return client->Put(session, layer, segment,
                     context.PutPayload(layer, segment * kSegmentBlocks,
                                        kSegmentBlocks));
}

class CrashLoopTest : public ::testing::Test {
 protected:
  CrashLoopTest()
      : folder_(std::string(std::getenv("TEST_TMPDIR")) + "/crash_loop"),
        rounds_(FromEnvironment("FORECACHE_CRASH_ROUNDS", 20)),
        rng_(FromEnvironment("FORECACHE_CRASH_SEED", 1)) {
    std::filesystem::remove_all(folder_);
  }
  ~CrashLoopTest() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Daemon> Start(std::string* address) {
    auto daemon = std::make_unique<Daemon>(std::vector<std::string>{
        "--dram-mib=4", "--ssd-dir=" + folder_,
        "--ssd-mib=" + std::to_string(SsdMib()),
        "--transports=tcp", "--transport-probe=off"});
    *address = FieldOf(daemon->Ready(), "grpc");
    return daemon;
  }

  // A segment takes an extent of 1 MiB, and no durable one may be evicted.
  int64_t SsdMib() const {
    return 64 + ContextsMax() * kSegments * (kSsdExtentBytes >> 20);
  }
  int64_t ContextsMax() const { return kContextsARound * rounds_; }

  // A context and how many of its segments were called durable.
  struct Known {
    std::unique_ptr<TestContext> context;
    int durable = 0;
  };
  const TestContext& ContextOf(size_t i) {
    if (known_[i].context == nullptr) {
      known_[i].context = std::make_unique<TestContext>(1000 + i, kSegments);
    }
    return *known_[i].context;
  }

  // Whether all of it that was durable is there, and right.
  void Verify(MortalStoreClient* client, size_t i) {
    const TestContext& context = ContextOf(i);
    const auto opened =
        client->control.OpenSession(kModel, TokensOf(context), "verify");
    ASSERT_TRUE(opened.ok()) << opened.status();
    EXPECT_GE(opened->cached_tokens, known_[i].durable * kSegmentTokens)
        << "durable segments of context " << i << " are lost";
    const int held = opened->cached_tokens / kSegmentTokens;
    auto sink = std::make_unique<CheckingSink>(context);
    if (held > 0) {
      EXPECT_EQ(client->Read(opened->handle, held, sink.get()),
                absl::OkStatus());
    }
    EXPECT_EQ(sink->wrong, 0) << "context " << i;
    EXPECT_EQ(sink->failed, 0) << "context " << i << ": " << sink->reason;
    wrong_ += sink->wrong;
    verified_ += sink->right;
    sinks_.push_back(std::move(sink));
    EXPECT_EQ(client->control.CloseSession(opened->handle), absl::OkStatus());
  }
  void VerifySome(MortalStoreClient* client) {
    const size_t size = known_.size();
    const size_t recent = std::min<size_t>(size, kRecentContexts);
    for (size_t i = size - recent; i < size; ++i) Verify(client, i);
    for (int i = 0; i < kOlderContexts && size > recent; ++i) {
      Verify(client, rng_.Below(size - recent));
    }
    for (size_t i = 0; i < size - recent; ++i) known_[i].context = nullptr;
  }

  // Puts contexts and reads them, until the store is dead.
  void Load(MortalStoreClient* client, const std::atomic<bool>& dead) {
    while (!dead) {
      // When there are enough, what an old one lacks.
      const bool is_new = std::ssize(known_) < ContextsMax();
      const size_t i = is_new ? known_.size() : rng_.Below(known_.size());
      if (is_new) known_.push_back({});
      const TestContext& context = ContextOf(i);
      const std::vector<int32_t> tokens = TokensOf(context);
      const auto opened =
          client->control.OpenSession(kModel, tokens, "load");
      if (!opened.ok()) return;
      for (int segment = opened->cached_tokens / kSegmentTokens;
           segment < kSegments; ++segment) {
        for (int layer = 0; layer < kTestGeometry.layers; ++layer) {
          if (!PutSegment(client, opened->handle, context, layer, segment)
                   .ok()) {
            return;
          }
        }
        const auto of_segment =
            std::span(tokens).subspan(segment * kSegmentTokens,
                                      kSegmentTokens);
        if (rng_.Below(2) == 0) {
          if (!client->control.SealSegment(opened->handle, segment, of_segment)
                   .ok()) {
            return;
          }
          continue;
        }
        const auto durable = client->control.SealDurably(
            opened->handle, segment, of_segment);
        if (!durable.ok()) return;
        // The leading run is what a prefix can find.
        if (*durable && known_[i].durable == segment) ++known_[i].durable;
      }
      auto sink = std::make_unique<CheckingSink>(context);
      const absl::Status read =
          client->Read(opened->handle, kSegments, sink.get());
      wrong_ += sink->wrong;
      EXPECT_EQ(sink->wrong, 0);
      sinks_.push_back(std::move(sink));
      if (!read.ok() ||
          !client->control.CloseSession(opened->handle).ok()) {
        return;
      }
    }
  }

  const std::string folder_;
  const int64_t rounds_;
  Rng rng_;
  std::vector<Known> known_;
  std::vector<std::unique_ptr<CheckingSink>> sinks_;  // outlive the clients
  int wrong_ = 0;
  int64_t verified_ = 0;
};

TEST_F(CrashLoopTest, NothingWrongAndNothingDurableLost) {
  for (int64_t round = 0; round < rounds_ && !HasFailure(); ++round) {
    SCOPED_TRACE(testing::Message() << "round " << round);
    std::string address;
    auto daemon = Start(&address);
    ASSERT_FALSE(address.empty()) << daemon->Log();
    std::atomic<bool> dead{false};
    {
      MortalStoreClient client(address, &dead);
      ASSERT_TRUE(client.connected()) << daemon->Log();
      VerifySome(&client);
      const int life_ms = 1 + static_cast<int>(rng_.Below(kLongestLifeMs));
      std::thread killer([&] {
        poll(nullptr, 0, life_ms);
        daemon->Signal(SIGKILL);
        dead = true;
      });
      Load(&client, dead);
      killer.join();
    }
    sinks_.clear();
    EXPECT_EQ(daemon->Join(), -1) << daemon->Log();
  }
  std::string address;
  auto daemon = Start(&address);
  ASSERT_FALSE(address.empty()) << daemon->Log();
  const std::atomic<bool> alive{false};
  int durable = 0;
  {
    MortalStoreClient client(address, &alive);
    ASSERT_TRUE(client.connected());
    for (size_t i = 0; i < known_.size() && !HasFailure(); ++i) {
      Verify(&client, i);
      durable += known_[i].durable;
      known_[i].context = nullptr;
    }
  }
  EXPECT_EQ(wrong_, 0);
  EXPECT_GT(durable, rounds_ / 4) << "too few to show anything";
  std::printf("%ld kills, %zu contexts, %d durable segments, %ld blocks "
              "verified\n",
              static_cast<long>(rounds_), known_.size(), durable,
              static_cast<long>(verified_));
}

TEST_F(CrashLoopTest, APausedStoreServesTheSameAfterwards) {
  std::string address;
  auto daemon = Start(&address);
  ASSERT_FALSE(address.empty()) << daemon->Log();
  const std::atomic<bool> alive{false};
  MortalStoreClient client(address, &alive);
  ASSERT_TRUE(client.connected());
  known_.push_back({});
  const TestContext& context = ContextOf(0);
  const auto opened =
      client.control.OpenSession(kModel, TokensOf(context), "pause");
  ASSERT_TRUE(opened.ok()) << opened.status();
  for (int layer = 0; layer < kTestGeometry.layers; ++layer) {
    ASSERT_EQ(PutSegment(&client, opened->handle, context, layer, 0),
              absl::OkStatus());
  }
  const int64_t pause_ms =
      1000 * FromEnvironment("FORECACHE_PAUSE_SECONDS", 2);
  daemon->Signal(SIGSTOP);
  std::thread waker([&] {
    poll(nullptr, 0, static_cast<int>(pause_ms));
    daemon->Signal(SIGCONT);
  });
  // Asked while it sleeps: the right bytes, or an error that says so.
  CheckingSink during(context);
  const absl::Status read = client.Read(opened->handle, 1, &during);
  EXPECT_TRUE(read.ok() || absl::IsDeadlineExceeded(read)) << read;
  EXPECT_EQ(during.wrong, 0);
  waker.join();
  CheckingSink after(context);
  EXPECT_EQ(client.Read(opened->handle, 1, &after), absl::OkStatus());
  EXPECT_EQ(after.wrong + after.failed, 0) << after.reason;
  EXPECT_GT(after.right, 0);
}

}  // namespace
}  // namespace forecache
