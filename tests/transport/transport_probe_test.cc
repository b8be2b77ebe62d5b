#include "transport/transport_probe.h"

#include <memory>
#include <optional>
#include <string>

#include "gtest/gtest.h"
#include "tests/transport/contract.h"

namespace forecache {
namespace {

// A transport whose handler is a probe.
//
// Threads: one.
template <typename Maker>
struct Side : MessageHandler {
  Side() {
    transport->SetHandler(this);
    probe = std::make_unique<TransportProbe>(transport.get());
  }
  ~Side() override {
    probe->Stop();
    transport.reset();
  }
  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override {
    others += !(answers && probe->OnMessage(from, header, payload));
  }
  void OnDisconnect(Endpoint* from, const absl::Status&) override {
    probe->OnDisconnect(from);
  }

  bool answers = true;
  int others = 0;  // messages that are not the probe's
  std::unique_ptr<Transport> transport = Maker::Make();
  std::unique_ptr<TransportProbe> probe;
};

template <typename Maker>
class TransportProbeTest : public testing::Test {
 protected:
  Endpoint* Connect() {
    Endpoint* to_b = *a_.transport->Connect(b_.transport->Address());
    EXPECT_TRUE(to_b->Send(ToBytes("hello"), {}, nullptr).ok());
    Turn([&] { return b_.others > 0; });
    for (int i = 0; i < 200; ++i) Turn([] { return true; });
    return to_b;
  }
  template <typename Condition>
  void Turn(Condition done) {
    const Nanos deadline = Clock::Real()->Now() + 10 * kSecond;
    do {
      a_.transport->Progress();
      b_.transport->Progress();
      a_.probe->Tick();
      b_.probe->Tick();
    } while (!done() && Clock::Real()->Now() < deadline);
  }
  void Measure(Endpoint* peer) {
    a_.probe->Start(peer, [&](const TransportTable& table) { table_ = table; });
    Turn([&] { return table_.has_value(); });
  }

  Side<Maker> a_;
  Side<Maker> b_;
  std::optional<TransportTable> table_;
};

using Probed = testing::Types<LoopbackMaker, UcxMaker<Shm>, UcxMaker<Tcp>>;
TYPED_TEST_SUITE(TransportProbeTest, Probed, MakerNames);

TYPED_TEST(TransportProbeTest, ChoosesForEachSize) {
  Endpoint* to_b = this->Connect();
  this->Measure(to_b);
  ASSERT_TRUE(this->table_.has_value());
  const TransportTable& table = *this->table_;
  EXPECT_EQ(table.transport, to_b->TransportName());
  EXPECT_EQ(table.entries.size(), 5 * kTransportSizes.size());
  // One thread drives both, with a turn of all else between.
  EXPECT_LT(table.took, kTransportProbeTimeout + 200 * kMillisecond);
  for (size_t i = 0; i < kTransportSizes.size(); ++i) {
    const TransportChoice& choice = table.choices[i];
    EXPECT_EQ(choice.size, kTransportSizes[i]);
    EXPECT_NE(choice.message, TransportOperation::kAuto) << choice.size;
    EXPECT_GT(choice.message_bytes_per_second, 1e6);
    EXPECT_GE(choice.fastest_bytes_per_second,
              choice.message_bytes_per_second / 1.3);
  }
  const std::string text = FormatTable(table);
  EXPECT_NE(text.find("eager 4K"), std::string::npos) << text;
  printf("%s\n", text.c_str());
  const bool same_host_memory = table.transport == "shm";
  EXPECT_EQ(absl::IsUnimplemented(table.entries[0].status), !same_host_memory)
      << table.entries[0].status;
  // Messages go on as before.
  ASSERT_TRUE(to_b->Send(ToBytes("after"), {}, nullptr).ok());
  this->Turn([&] { return this->b_.others == 2; });
  EXPECT_EQ(this->b_.others, 2);
}

TYPED_TEST(TransportProbeTest, APeerWithoutAProbeCostsItsTime) {
  Endpoint* to_b = this->Connect();
  this->b_.answers = false;
  this->Measure(to_b);
  ASSERT_TRUE(this->table_.has_value());
  EXPECT_TRUE(absl::IsDeadlineExceeded(this->table_->status));
  EXPECT_EQ(this->table_->choices[0].message, TransportOperation::kAuto);
  EXPECT_FALSE(this->a_.probe->running());
}

TYPED_TEST(TransportProbeTest, APeerThatGoesAwayEndsIt) {
  Endpoint* to_b = this->Connect();
  this->a_.probe->Start(to_b, [&](const TransportTable& table) {
    this->table_ = table;
  });
  this->a_.probe->OnDisconnect(to_b);
  ASSERT_TRUE(this->table_.has_value());
  EXPECT_TRUE(absl::IsUnavailable(this->table_->status));
  EXPECT_FALSE(this->a_.probe->running());
  this->Turn([] { return true; });
}

TYPED_TEST(TransportProbeTest, BothMeasureAtOnce) {
  Endpoint* to_b = this->Connect();
  ASSERT_TRUE(to_b->Send(ToBytes("and back"), {}, nullptr).ok());
  auto to_a = this->b_.transport->Connect(this->a_.transport->Address());
  ASSERT_TRUE(to_a.ok());
  int ended = 0;
  auto done = [&](const TransportTable& table) {
    ++ended;
    EXPECT_FALSE(absl::IsUnavailable(table.status)) << table.status;
  };
  this->a_.probe->Start(to_b, done);
  this->b_.probe->Start(*to_a, done);
  this->Turn([&] { return ended == 2; });
  EXPECT_EQ(ended, 2);
}

}  // namespace
}  // namespace forecache
