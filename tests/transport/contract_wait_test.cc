// What every Transport promises about waiting, closing and ending.

#include <atomic>
#include <ctime>
#include <thread>

#include "gtest/gtest.h"
#include "tests/transport/contract.h"

namespace forecache {
namespace {

TYPED_TEST_SUITE(ContractTest, Makers, MakerNames);

TYPED_TEST(ContractTest, WakeEndsAWait) {
  Settle({&this->a_});
  std::atomic<bool> waiting{false};
  std::thread waker([&] {
    while (!waiting) std::this_thread::yield();
    this->a_.transport->Wake();
  });
  const Nanos start = Clock::Real()->Now();
  waiting = true;
  this->a_.transport->Wait(20 * kSecond);
  EXPECT_LT(Clock::Real()->Now() - start, 10 * kSecond);
  waker.join();
}

TYPED_TEST(ContractTest, AWakeBeforeTheWaitCounts) {
  Settle({&this->a_});
  this->a_.transport->Wake();
  this->a_.transport->Progress();
  const Nanos start = Clock::Real()->Now();
  this->a_.transport->Wait(20 * kSecond);
  EXPECT_LT(Clock::Real()->Now() - start, 10 * kSecond);
}

Nanos CpuTime() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return now.tv_sec * kSecond + now.tv_nsec;
}

TYPED_TEST(ContractTest, WaitSleeps) {
  this->Wired();
  const Nanos cpu = CpuTime();
  const Nanos start = Clock::Real()->Now();
  int waits = 0;
  while (Clock::Real()->Now() - start < 300 * kMillisecond) {
    this->a_.transport->Wait(300 * kMillisecond);
    this->a_.transport->Progress();
    ++waits;
  }
  EXPECT_LT(CpuTime() - cpu, 60 * kMillisecond);
  EXPECT_LT(waits, 20);
}

// The echo of a peer in another thread, both sides asleep between messages.
TYPED_TEST(ContractTest, WaitSeesWhatAnotherThreadSends) {
  std::atomic<bool> stop{false};
  this->b_.heard.keep = false;
  this->b_.heard.on_message = [](Endpoint* from, ByteView header,
                                 ByteView payload) {
    // The views end with this call; an echo needs a copy.
    auto copy = std::make_shared<std::string>(ToString(payload));
    EXPECT_TRUE(from->Send(header, ToBytes(*copy),
                           [copy](const absl::Status&) {}).ok());
  };
  std::thread peer([&] {
    while (!stop) {
      if (this->b_.transport->Progress() == 0) {
        this->b_.transport->Wait(5 * kSecond);
      }
    }
  });
  Endpoint* to_b = this->ConnectAToB();
  for (int i = 0; i < 300; ++i) {
    const std::string payload = Pattern(i % 30 == 0 ? 300000 : i * 37, i);
    ASSERT_TRUE(to_b->Send({}, ToBytes(payload), nullptr).ok());
    const Nanos start = Clock::Real()->Now();
    while (this->a_.heard.count < i + 1) {
      if (this->a_.transport->Progress() > 0) continue;
      this->a_.transport->Wait(5 * kSecond);
      // A missed event would sleep the whole of it.
      ASSERT_LT(Clock::Real()->Now() - start, 4 * kSecond) << i;
    }
    EXPECT_TRUE(this->a_.heard.messages[i].payload == payload);
  }
  stop = true;
  this->b_.transport->Wake();
  peer.join();
}

TYPED_TEST(ContractTest, CloseEndsSendsUnderWay) {
  Endpoint* to_b = this->Wired();
  const std::string payload(256 << 10, 'p');
  int dones = 0;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(to_b->Send({}, ToBytes(payload), [&](const absl::Status&) {
      ++dones;
    }).ok());
  }
  this->a_.transport->Progress();
  this->a_.transport->Close(to_b);
  ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] { return dones == 100; }));
  Settle({&this->a_, &this->b_});
  EXPECT_EQ(dones, 100);
  // A new endpoint works.
  const size_t before = this->b_.heard.count;
  Endpoint* again = this->ConnectAToB();
  ASSERT_TRUE(again->Send(ToBytes("again"), {}, nullptr).ok());
  ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
    return this->b_.heard.count > before;
  }));
  EXPECT_EQ(this->b_.heard.messages.back().header, "again");
}

TYPED_TEST(ContractTest, CloseEndsPutsUnderWay) {
  Endpoint* to_b = this->Wired();
  std::vector<std::byte> memory(1 << 20);
  auto region = this->b_.transport->Register(memory);
  ASSERT_TRUE(region.ok()) << region.status();
  const std::string source(1 << 20, 'p');
  int dones = 0;
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(to_b->Put(ToBytes(source), (*region)->RemoteKey(), 0,
                          [&](const absl::Status&) { ++dones; }).ok());
  }
  this->a_.transport->Progress();
  this->a_.transport->Close(to_b);
  EXPECT_TRUE(Pump({&this->a_, &this->b_}, [&] { return dones == 50; }));
  Settle({&this->a_, &this->b_});
}

TYPED_TEST(ContractTest, AHandlerMayCloseItsEndpoint) {
  Endpoint* to_b = this->ConnectAToB();
  this->b_.heard.on_message = [&](Endpoint* from, ByteView, ByteView) {
    this->b_.transport->Close(from);
  };
  ASSERT_TRUE(to_b->Send(ToBytes("last words"), {}, nullptr).ok());
  ASSERT_TRUE(Pump({&this->a_, &this->b_},
                   [&] { return this->b_.heard.count == 1; }));
  Settle({&this->a_, &this->b_});
}

TYPED_TEST(ContractTest, EveryDoneIsCalledOnceBeforeTheEnd) {
  int dones = 0;
  const std::string payload(256 << 10, 'p');
  {
    Node c(TypeParam::Make());
    auto to_b = c.transport->Connect(this->b_.transport->Address());
    ASSERT_TRUE(to_b.ok());
    for (int i = 0; i < 200; ++i) {
      ASSERT_TRUE((*to_b)->Send({}, ToBytes(payload), [&](const absl::Status&) {
        ++dones;
      }).ok());
    }
    c.transport->Progress();
  }
  EXPECT_EQ(dones, 200);
  Settle({&this->b_});
}

TYPED_TEST(ContractTest, APeerThatWentAwayStopsNobody) {
  Endpoint* to_b = this->Wired();
  this->b_.transport.reset();
  const std::string payload(64 << 10, 'p');
  int dones = 0;
  int accepted = 0;
  for (int i = 0; i < 100 && this->a_.heard.gone.empty(); ++i) {
    accepted += to_b->Send({}, ToBytes(payload), [&](const absl::Status&) {
      ++dones;
    }).ok();
    this->a_.transport->Progress();
  }
  Settle({&this->a_});
  this->a_.transport.reset();
  EXPECT_EQ(dones, accepted);
}

}  // namespace
}  // namespace forecache
