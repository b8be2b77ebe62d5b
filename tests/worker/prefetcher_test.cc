// Corrections of a session whose store answers in time, late or never.
#include "worker/prefetcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include "tests/kvstore/hello.h"
#include "tests/kvstore/store_fixture.h"
#include "transport/loopback_transport.h"

namespace forecache {
namespace {

constexpr int kSegments = 2;
constexpr int kLayer = 1;
constexpr int kCorrected = 4;  // blocks of each KV head
constexpr int kHeads = kTestGeometry.kv_heads;
constexpr int kRows = kHeads * kTestGeometry.group;

// A store in this process, which hears what it is sent only while it is awake.
class PrefetcherTest : public StoreFixture {
 protected:
  PrefetcherTest() : context_(1, kSegments) {
    Fill(context_);
    plane_ = std::make_unique<DataPlane>(
        store_.get(), std::make_unique<LoopbackTransport>(),
        DataPlaneOptions());
    Wake();
    FC_CHECK_OK(data_plane_.Connect(0, AddressOf(*plane_)));
    const NewSession opened = Open(context_);
    session_ = {opened.id, {opened.key[0], opened.key[1]}, kTestGeometry};
  }
  ~PrefetcherTest() override {
    prefetcher_ = nullptr;
    Sleep();
  }

  void Wake() {
    awake_ = true;
    store_thread_ = std::thread([this] {
      while (awake_) {
        if (plane_->RunOnce() == 0) std::this_thread::yield();
      }
    });
  }
  void Sleep() {
    awake_ = false;
    if (store_thread_.joinable()) store_thread_.join();
  }

  void Start(LatePolicy late_policy) {
    PrefetchOptions options;
    options.budget = {.blocks = kCorrected + 5, .corrected = kCorrected};
    options.late_policy = late_policy;
    options.tail = true;
    prefetcher_ = std::make_unique<Prefetcher>(
        session_, options, /*scale=*/0.2f,
        *MakePredictor({.name = "last",
                        .shape = {.layers = kTestGeometry.layers,
                                  .kv_heads = kHeads,
                                  .group = kTestGeometry.group}}),
        &cache_, &data_plane_, &fault_);
  }

  // Of the token behind the context.
  void Correct() {
    prefetcher_->Correct(
        kLayer, context_.blocks() * kBlockTokens,
        std::vector<float>(kRows * kTestGeometry.head_dim, 0.5f),
        {.first_block = context_.blocks(),
         .lse = std::vector<float>(kRows,
                                   -std::numeric_limits<float>::infinity())});
    data_plane_.Run([] {});  // it was asked for
  }

  std::vector<int32_t> Ready(int head) {
    std::vector<int32_t> blocks;
    cache_.ReadyBlocks(kLayer, head, &blocks);
    return blocks;
  }
  bool AllCorrected() {
    return prefetcher_->counters().corrected == kHeads * kCorrected;
  }
  bool Until(const std::function<bool()>& done) {
    const Nanos end = Clock::Real()->Now() + 10 * kSecond;
    while (!done()) {
      if (Clock::Real()->Now() > end) return false;
      std::this_thread::yield();
    }
    return true;
  }
  // What is resident is what the context has.
  void ExpectTheContextsBytes() {
    LayerTables tables;
    cache_.BuildTables(kLayer, &tables);
    for (int head = 0; head < kHeads; ++head) {
      for (size_t i = 0; i < tables.slots[head].size(); ++i) {
        const ByteView bytes = arena_->ReadBlock(tables.slots[head][i]);
        const size_t part = kTestGeometry.PartBytes();
        for (bool value : {false, true}) {
          EXPECT_TRUE(std::ranges::equal(
              bytes.subspan(value * part, part),
              context_.Part(kLayer, head, tables.blocks[head][i], value)));
        }
      }
    }
  }

  const TestContext context_;
  std::unique_ptr<DataPlane> plane_;
  std::atomic<bool> awake_{false};
  std::thread store_thread_;
  GroupSessions sessions_{MemberList{.names = {"store"}}};
  DataPlaneThread data_plane_{std::make_unique<LoopbackTransport>(),
                              Clock::Real(), &sessions_};
  SessionHandle session_;
  std::unique_ptr<HostArena> arena_ = *HostArena::Create(kTestGeometry, 64);
  ResidentCache cache_{kTestGeometry, arena_.get()};
  SessionFault fault_;
  std::unique_ptr<Prefetcher> prefetcher_;
};

TEST_F(PrefetcherTest, ACorrectionInTimeBringsItsBlocksAndTheTail) {
  Start(LatePolicy::kStrict);
  Correct();
  EXPECT_EQ(prefetcher_->AwaitLayer(kLayer), absl::OkStatus());
  EXPECT_TRUE(AllCorrected());
  for (int head = 0; head < kHeads; ++head) {
    EXPECT_EQ(Ready(head).size(), kCorrected);
  }
  ExpectTheContextsBytes();
  EXPECT_NE(prefetcher_->TakeTail(kLayer), nullptr);
  EXPECT_EQ(arena_->slots_in_use(), kHeads * kCorrected);
}

TEST_F(PrefetcherTest, ALateCorrectionHoldsNobodyUpAndHarmsNobody) {
  Start(LatePolicy::kSkip);
  Sleep();
  Correct();
  EXPECT_EQ(prefetcher_->AwaitLayer(kLayer), absl::OkStatus());
  EXPECT_EQ(prefetcher_->counters().corrections_late, 1u);
  EXPECT_EQ(prefetcher_->TakeTail(kLayer), nullptr);
  EXPECT_TRUE(Ready(0).empty());
  Wake();
  // They are of use to the next token.
  EXPECT_TRUE(Until([&] { return AllCorrected(); }));
  ExpectTheContextsBytes();
  EXPECT_EQ(arena_->slots_in_use(), kHeads * kCorrected);
  EXPECT_EQ(fault_.status(), absl::OkStatus());
}

TEST_F(PrefetcherTest, ACorrectionOfASessionThatEndedFindsNobody) {
  Start(LatePolicy::kSkip);
  Sleep();
  Correct();
  EXPECT_EQ(prefetcher_->AwaitLayer(kLayer), absl::OkStatus());
  prefetcher_ = nullptr;
  EXPECT_EQ(arena_->slots_in_use(), 0);
  // Another has the slots when the store gets to it.
  Start(LatePolicy::kStrict);
  Correct();
  Wake();
  EXPECT_EQ(prefetcher_->AwaitLayer(kLayer), absl::OkStatus());
  EXPECT_TRUE(AllCorrected());
  ExpectTheContextsBytes();
  EXPECT_EQ(arena_->slots_in_use(), kHeads * kCorrected);
}

}  // namespace
}  // namespace forecache
