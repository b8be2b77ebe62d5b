#include "transport/faulty_transport.h"

#include <algorithm>
#include <set>

#include "gtest/gtest.h"
#include "tests/transport/testing.h"
#include "transport/loopback_transport.h"

namespace forecache {
namespace {

// a's messages suffer, b is a plain transport.
class FaultyTransportTest : public testing::Test {
 protected:
  FaultyTransport* Wrap(const FaultOptions& options) {
    auto faulty = std::make_unique<FaultyTransport>(
        std::make_unique<LoopbackTransport>(), options);
    FaultyTransport* result = faulty.get();
    a_ = std::make_unique<Node>(std::move(faulty));
    b_ = std::make_unique<Node>(std::make_unique<LoopbackTransport>());
    to_b_ = *a_->transport->Connect(b_->transport->Address());
    return result;
  }

  // Sends `count` numbered messages, and lets all that will happen happen.
  void SendMany(int count) {
    for (int i = 0; i < count; ++i) {
      const uint64_t id = i;
      if (to_b_->Send(AsBytes(id), ToBytes(payload_),
                      [this](const absl::Status& status) {
                        dones_ += status.ok();
                        failures_ += !status.ok();
                      }).ok()) {
        ++accepted_;
      }
      Step();
      if (!a_->heard.gone.empty()) break;
    }
    for (int i = 0; i < 100; ++i) Step();
  }
  void Step() {
    a_->transport->Progress();
    b_->transport->Progress();
  }
  std::vector<uint64_t> Heard() const {
    std::vector<uint64_t> ids;
    for (const auto& message : b_->heard.messages) {
      uint64_t id = ~uint64_t{0};
      memcpy(&id, message.header.data(), sizeof(id));
      ids.push_back(id);
    }
    return ids;
  }

  const std::string payload_ = Pattern(300, 1);
  std::unique_ptr<Node> a_;
  std::unique_ptr<Node> b_;
  Endpoint* to_b_ = nullptr;
  int accepted_ = 0;
  int dones_ = 0;
  int failures_ = 0;
};

TEST_F(FaultyTransportTest, NoFaults) {
  Wrap({});
  SendMany(100);
  EXPECT_EQ(Heard().size(), 100);
  EXPECT_TRUE(std::ranges::is_sorted(Heard()));
  EXPECT_EQ(dones_, 100);
}

TEST_F(FaultyTransportTest, Drops) {
  FaultyTransport* faulty = Wrap({.seed = 3, .drop = 0.3});
  SendMany(200);
  EXPECT_GT(faulty->counts().dropped, 30);
  EXPECT_LT(faulty->counts().dropped, 90);
  EXPECT_EQ(b_->heard.count, 200 - faulty->counts().dropped);
  EXPECT_EQ(dones_, 200);  // the sender can't tell
}

TEST_F(FaultyTransportTest, DelaysAndLosesNothing) {
  FaultyTransport* faulty = Wrap({.seed = 3, .delay = 0.3});
  SendMany(200);
  EXPECT_GT(faulty->counts().delayed, 30);
  std::vector<uint64_t> ids = Heard();
  EXPECT_EQ(ids.size(), 200);
  EXPECT_FALSE(std::ranges::is_sorted(ids));
  EXPECT_EQ(std::set(ids.begin(), ids.end()).size(), 200);
}

TEST_F(FaultyTransportTest, Duplicates) {
  FaultyTransport* faulty = Wrap({.seed = 3, .duplicate = 0.2});
  SendMany(200);
  EXPECT_GT(faulty->counts().duplicated, 20);
  EXPECT_EQ(b_->heard.count, 200 + faulty->counts().duplicated);
  EXPECT_EQ(dones_, 200);  // once each
}

TEST_F(FaultyTransportTest, Reorders) {
  FaultyTransport* faulty = Wrap({.seed = 3, .reorder = 0.2});
  SendMany(200);
  EXPECT_GT(faulty->counts().reordered, 20);
  std::vector<uint64_t> ids = Heard();
  EXPECT_EQ(ids.size(), 200);
  EXPECT_FALSE(std::ranges::is_sorted(ids));
}

TEST_F(FaultyTransportTest, CorruptsOneByte) {
  FaultyTransport* faulty = Wrap({.seed = 3, .corrupt = 0.2});
  SendMany(200);
  const uint64_t corrupted = faulty->counts().corrupted;
  EXPECT_GT(corrupted, 20);
  ASSERT_EQ(b_->heard.count, 200);
  uint64_t changed = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    const auto& message = b_->heard.messages[i];
    std::string sent(reinterpret_cast<const char*>(&i), sizeof(i));
    sent += payload_;
    const std::string got = message.header + message.payload;
    ASSERT_EQ(got.size(), sent.size());
    int bytes = 0;
    for (size_t j = 0; j < sent.size(); ++j) bytes += sent[j] != got[j];
    EXPECT_LE(bytes, 1);
    changed += bytes;
  }
  EXPECT_EQ(changed, corrupted);
}

TEST_F(FaultyTransportTest, KillsAPeer) {
  FaultyTransport* faulty = Wrap({.seed = 3, .death = 0.05});
  SendMany(1000);
  EXPECT_EQ(faulty->counts().deaths, 1);
  ASSERT_EQ(a_->heard.gone.size(), 1);
  EXPECT_EQ(a_->heard.gone[0].first, to_b_);
  EXPECT_EQ(a_->heard.gone[0].second.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(dones_ + failures_, accepted_);
  EXPECT_GT(failures_, 0);
  EXPECT_EQ(b_->heard.gone.size(), 1);  // to b, it is we who died
}

TEST_F(FaultyTransportTest, KillPeerSilencesIt) {
  FaultyTransport* faulty = Wrap({});
  SendMany(1);
  Endpoint* to_a = b_->heard.messages[0].from;
  faulty->KillPeer(to_b_);
  EXPECT_FALSE(to_b_->Send({}, {}, nullptr).ok());
  ASSERT_TRUE(to_a->Send(ToBytes("hello?"), {}, nullptr).ok());
  for (int i = 0; i < 10; ++i) Step();
  EXPECT_EQ(a_->heard.count, 0);
  EXPECT_EQ(a_->heard.gone.size(), 1);
}

TEST_F(FaultyTransportTest, NothingPassesAPartition) {
  FaultyTransport* faulty = Wrap({});
  SendMany(1);
  Endpoint* to_a = b_->heard.messages[0].from;
  std::vector<std::byte> memory(100);
  auto region = b_->transport->Register(memory);
  bool landed = false;
  faulty->SetPartitioned(true);
  SendMany(10);
  ASSERT_TRUE(to_a->Send(ToBytes("hello?"), {}, nullptr).ok());
  ASSERT_TRUE(to_b_->Put(ToBytes("put"), (*region)->RemoteKey(), 0,
                         [&](const absl::Status&) { landed = true; }).ok());
  for (int i = 0; i < 10; ++i) Step();
  EXPECT_EQ(b_->heard.count, 1);
  EXPECT_EQ(a_->heard.count, 0);
  EXPECT_FALSE(landed);
  faulty->SetPartitioned(false);
  SendMany(10);
  EXPECT_EQ(b_->heard.count, 11);
  EXPECT_TRUE(landed);
  EXPECT_EQ(memory[0], std::byte{'p'});
}

TEST_F(FaultyTransportTest, PartitionsEnd) {
  FaultyTransport* faulty = Wrap({.seed = 3, .partition = 0.02});
  SendMany(500);
  EXPECT_GT(faulty->counts().partitions, 2);
  EXPECT_LT(b_->heard.count, 490);
  EXPECT_GT(b_->heard.count, 100);
}

TEST_F(FaultyTransportTest, TheSameSeedGivesTheSameTrace) {
  FaultOptions options = {.drop = 0.1,
                          .delay = 0.1,
                          .duplicate = 0.1,
                          .reorder = 0.1,
                          .corrupt = 0.1,
                          .partition = 0.005};
  std::set<uint32_t> traces;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    options.seed = seed;
    uint32_t trace[2];
    std::vector<std::string> heard[2];
    for (int run = 0; run < 2; ++run) {
      FaultyTransport* faulty = Wrap(options);
      SendMany(300);
      trace[run] = faulty->trace();
      for (const auto& message : b_->heard.messages) {
        heard[run].push_back(message.header + message.payload);
      }
    }
    EXPECT_EQ(trace[0], trace[1]) << "seed " << seed;
    EXPECT_EQ(heard[0], heard[1]) << "seed " << seed;
    traces.insert(trace[0]);
  }
  EXPECT_EQ(traces.size(), 5);
}

}  // namespace
}  // namespace forecache
