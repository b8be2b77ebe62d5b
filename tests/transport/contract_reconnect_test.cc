// A pair that comes and goes leaves nothing behind, and costs nothing idle.

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "gtest/gtest.h"
#include "tests/transport/contract.h"

namespace forecache {
namespace {

TYPED_TEST_SUITE(ContractTest, Makers, MakerNames);

struct Holdings {
  size_t fds = 0;
  size_t mappings = 0;
  size_t heap_bytes = 0;
};

Holdings Held() {
  Holdings held;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/self/fd")) {
    held.fds += !entry.path().empty();
  }
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) ++held.mappings;
  held.heap_bytes = mallinfo2().uordblks;
  return held;
}

TYPED_TEST(ContractTest, ReconnectsLeakNothing) {
  constexpr int kWarmup = 50;
  // What differs from another only in how messages travel gets fewer.
  const bool variant = std::string(TypeParam::kName) == "UcxTcpRendezvous" ||
                       std::string(TypeParam::kName) == "Faulty";
  const int reconnects = variant ? 50 : 1000;
  this->b_.heard.keep = false;
  Holdings before;
  for (int i = 0; i < kWarmup + reconnects; ++i) {
    if (i == kWarmup) before = Held();
    const size_t gone = this->b_.heard.gone.size();
    Endpoint* to_b = this->ConnectAToB();
    ASSERT_TRUE(to_b->Send(ToBytes("again"), ToBytes("payload"), nullptr).ok());
    ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
      return this->b_.heard.count == i + 1;
    })) << i;
    this->a_.transport->Close(to_b);
    ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
      return this->b_.heard.gone.size() > gone;
    })) << i;
  }
  ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
    return this->a_.transport->Counts().endpoints == 0 &&
           this->b_.transport->Counts().endpoints == 0;
  }));
  for (Node* node : {&this->a_, &this->b_}) {
    EXPECT_EQ(node->transport->Counts().operations, 0);
    EXPECT_EQ(node->transport->Counts().receives, 0);
  }
  const Holdings after = Held();
  EXPECT_LE(after.fds, before.fds + 2);
#if !defined(__SANITIZE_ADDRESS__)  // whose allocator maps as it likes
  EXPECT_LE(after.mappings, before.mappings + 8);
#endif
  // What the recorder keeps of each disconnect, and pools that grow once.
  const size_t allowance = reconnects * 200 + (size_t{512} << 10);
  EXPECT_LT(after.heap_bytes, before.heap_bytes + allowance);
  printf("heap +%zd bytes, fds +%zd, mappings +%zd\n",
         static_cast<ssize_t>(after.heap_bytes - before.heap_bytes),
         static_cast<ssize_t>(after.fds - before.fds),
         static_cast<ssize_t>(after.mappings - before.mappings));
}

Nanos CpuTime() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

TYPED_TEST(ContractTest, AnIdlePairBurnsNoCore) {
  this->Wired();
  std::atomic<bool> stop{false};
  const Nanos cpu = CpuTime();
  std::thread b([&] {
    while (!stop) {
      if (this->b_.transport->Progress() == 0) {
        this->b_.transport->Wait(kSecond);
      }
    }
  });
  const Nanos end = Clock::Real()->Now() + kSecond;
  for (Nanos now = 0; now < end; now = Clock::Real()->Now()) {
    if (this->a_.transport->Progress() == 0) {
      this->a_.transport->Wait(end - Clock::Real()->Now());
    }
  }
  const Nanos burnt = CpuTime() - cpu;
  stop = true;
  this->b_.transport->Wake();
  b.join();
  EXPECT_LT(burnt, 30 * kMillisecond);
}

// A get is the other way to read a region; not all transports have it.
TYPED_TEST(ContractTest, GetReadsWhatIsThere) {
  Endpoint* to_b = this->Wired();
  const std::string there = Pattern(1 << 20, 5);
  std::vector<std::byte> memory(there.size());
  memcpy(memory.data(), there.data(), there.size());
  auto region = this->b_.transport->Register(memory);
  ASSERT_TRUE(region.ok()) << region.status();
  for (size_t size : {1, 4096, 65536}) {
    std::vector<std::byte> target(size);
    absl::Status ended = absl::UnknownError("not yet");
    ASSERT_TRUE(to_b->Get(target, (*region)->RemoteKey(), 77,
                          [&](const absl::Status& status) { ended = status; })
                    .ok());
    ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
      return ended.code() != absl::StatusCode::kUnknown;
    }));
    EXPECT_TRUE(ended.ok()) << ended;
    EXPECT_EQ(memcmp(target.data(), there.data() + 77, size), 0) << size;
  }
  std::vector<std::byte> target(10);
  EXPECT_EQ(to_b->Get(target, (*region)->RemoteKey(), there.size() - 9, nullptr)
                .code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_EQ(to_b->Get(target, "not a key", 0, nullptr).code(),
            absl::StatusCode::kInvalidArgument);
  Settle({&this->a_, &this->b_});
}

}  // namespace
}  // namespace forecache
