// The seeded faults over each transport: whatever happens to messages, each
// done is called once, and nothing arrives that was not sent.

#include <map>
#include <string>

#include "gtest/gtest.h"
#include "tests/transport/contract.h"

namespace forecache {
namespace {

template <typename Maker>
class FaultsTest : public testing::Test {};

using Inner = testing::Types<LoopbackMaker, UcxMaker<Shm>, UcxMaker<Tcp>>;
TYPED_TEST_SUITE(FaultsTest, Inner, MakerNames);

// a suffers, b is a plain transport.
//
// Threads: one.
struct Pair {
  template <typename Make>
  Pair(Make make, const FaultOptions& options)
      : faulty(new FaultyTransport(make(), options)),
        a(std::unique_ptr<Transport>(faulty)),
        b(make()) {
    to_b = *a.transport->Connect(b.transport->Address());
  }
  void Send(uint64_t id, const std::string& payload) {
    accepted += to_b->Send(AsBytes(id), ToBytes(payload),
                           [this](const absl::Status&) { ++dones; }).ok();
  }
  void Step(int count) {
    for (int i = 0; i < count; ++i) {
      a.transport->Progress();
      b.transport->Progress();
    }
  }

  int accepted = 0;
  int dones = 0;
  FaultyTransport* faulty;
  Node a;
  Node b;
  Endpoint* to_b;
};

struct NamedFault {
  const char* name;
  FaultOptions options;
};
const NamedFault kFaults[] = {
    {"drop", {.drop = 0.2}},
    {"delay", {.delay = 0.3}},
    {"reorder", {.reorder = 0.3}},
    {"duplicate", {.duplicate = 0.2}},
    {"corrupt", {.corrupt = 0.2}},
    {"partition", {.partition = 0.02}},
    {"death", {.death = 0.02}},
    {"all", {.drop = 0.05, .delay = 0.1, .duplicate = 0.05, .reorder = 0.1,
             .corrupt = 0.05, .death = 0.002, .partition = 0.005}},
};

TYPED_TEST(FaultsTest, EachFaultEndsEachDoneOnce) {
  constexpr int kMessages = 120;
  for (const NamedFault& fault : kFaults) {
    SCOPED_TRACE(fault.name);
    FaultOptions options = fault.options;
    options.seed = 11;
    std::map<uint64_t, std::string> payloads;
    Pair pair(&TypeParam::Make, options);
    for (uint64_t id = 0; id < kMessages; ++id) {
      payloads[id] = Pattern(id % 7 == 0 ? 20000 : id, id);
      if (pair.a.heard.gone.empty()) pair.Send(id, payloads[id]);
      pair.Step(2);
    }
    (void)Pump({&pair.a, &pair.b}, [&] { return pair.dones == pair.accepted; },
               5 * kSecond);
    Settle({&pair.a, &pair.b}, 5 * kMillisecond);
    EXPECT_EQ(pair.dones, pair.accepted);
    const FaultCounts& counts = pair.faulty->counts();
    EXPECT_LE(pair.b.heard.count, pair.accepted + counts.duplicated);
    if (counts.deaths == 0 && counts.partitions == 0) {
      EXPECT_EQ(pair.b.heard.count,
                pair.accepted + counts.duplicated - counts.dropped);
    }
    EXPECT_EQ(pair.a.heard.gone.size(), counts.deaths);
    uint64_t damaged = 0;
    for (const auto& message : pair.b.heard.messages) {
      uint64_t id = ~uint64_t{0};
      memcpy(&id, message.header.data(), sizeof(id));
      damaged += payloads.count(id) == 0 || payloads[id] != message.payload;
    }
    EXPECT_LE(damaged, counts.corrupted + counts.duplicated);
    if (counts.corrupted == 0) {
      EXPECT_EQ(damaged, 0);
    }
  }
}

// The peer dies before each message of a short conversation.
TYPED_TEST(FaultsTest, PeerDeathAtEveryStep) {
  constexpr int kSteps = 8;
  const std::string payload = Pattern(30000, 3);
  for (int death = 0; death <= kSteps; ++death) {
    SCOPED_TRACE(death);
    Pair pair(&TypeParam::Make, {});
    int refused = 0;
    for (int step = 0; step < kSteps; ++step) {
      if (step == death) pair.faulty->KillPeer(pair.to_b);
      if (!pair.a.heard.gone.empty()) break;  // to_b is invalid
      const int before = pair.accepted;
      pair.Send(step, payload);
      refused += pair.accepted == before;
      pair.Step(step % 3);
    }
    if (death == kSteps) pair.faulty->KillPeer(pair.to_b);
    ASSERT_TRUE(Pump({&pair.a, &pair.b}, [&] {
      return pair.dones == pair.accepted && pair.a.heard.gone.size() == 1;
    }));
    EXPECT_EQ(pair.a.heard.gone[0].second.code(),
              absl::StatusCode::kUnavailable);
    EXPECT_LE(refused, kSteps - death);
    Settle({&pair.a, &pair.b}, 2 * kMillisecond);
    EXPECT_LE(pair.b.heard.count, pair.accepted);
    EXPECT_EQ(pair.a.heard.gone.size(), 1);
  }
}

// The peer that was asked goes at any moment of getting to know the other.
// (The one that asks does so at the risk of a UCX before 1.14: docs/BUGS.md.)
TYPED_TEST(FaultsTest, EndsAtEveryStepOfConnecting) {
  constexpr int kSteps = 12;
  for (int steps = 0; steps <= kSteps; ++steps) {
    SCOPED_TRACE(steps);
    Node asking(TypeParam::Make()), asked(TypeParam::Make());
    auto endpoint = asking.transport->Connect(asked.transport->Address());
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    for (int step = 0; step < steps; ++step) {
      (step % 2 == 0 ? asked : asking).transport->Progress();
    }
    asked.transport.reset();
  }
}

}  // namespace
}  // namespace forecache
