#include "transport/probed_transport.h"

#include <memory>
#include <string>
#include <utility>

#include "gtest/gtest.h"
#include "tests/transport/contract.h"

namespace forecache {
namespace {

// A transport with its user: counts messages, answers the first.
//
// Threads: one.
struct Side : MessageHandler {
  Side(std::unique_ptr<Transport> inner, bool wrapped, bool probe) {
    if (wrapped) {
      auto made = std::make_unique<ProbedTransport>(
          std::move(inner),
          ProbedTransportOptions{.probe = probe, .metrics = &metrics});
      probed = made.get();
      transport = std::move(made);
    } else {
      transport = std::move(inner);
    }
    transport->SetHandler(this);
  }
  void OnMessage(Endpoint* from, ByteView, ByteView) override {
    peer = from;
    if (++messages == 1 && answers) {
      EXPECT_TRUE(from->Send(ToBytes("answer"), {}, nullptr).ok());
    }
  }
  void OnDisconnect(Endpoint*, const absl::Status&) override { ++gone; }
  bool Exports(const std::string& part) const {
    return metrics.Text().find(part) != std::string::npos;
  }
  // Whether some way is exported as the one in use.
  bool Selected() const {
    const std::string text = metrics.Text();
    const size_t at = text.find("forecache_transport_selected{");
    return at != std::string::npos && text.find("} 1", at) < text.size();
  }

  Metrics metrics;
  bool answers = false;
  int messages = 0;
  int gone = 0;
  Endpoint* peer = nullptr;
  ProbedTransport* probed = nullptr;
  std::unique_ptr<Transport> transport;
};

template <typename Maker>
class ProbedTransportTest : public testing::Test {
 protected:
  void Make(bool b_wrapped, bool a_probes, bool b_probes) {
    a_ = std::make_unique<Side>(Maker::Make(), true, a_probes);
    b_ = std::make_unique<Side>(Maker::Make(), b_wrapped, b_probes);
    b_->answers = true;
    to_b_ = *a_->transport->Connect(b_->transport->Address());
    EXPECT_TRUE(to_b_->Send(ToBytes("hello"), {}, nullptr).ok());
    EXPECT_TRUE(Turn([&] { return a_->messages == 1; }));
  }
  template <typename Condition>
  bool Turn(Condition done, Nanos limit = 10 * kSecond) {
    const Nanos deadline = Clock::Real()->Now() + limit;
    do {
      a_->transport->Progress();
      b_->transport->Progress();
      if (done()) return true;
    } while (Clock::Real()->Now() < deadline);
    return false;
  }

  std::unique_ptr<Side> a_, b_;
  Endpoint* to_b_ = nullptr;
};

using Probed = testing::Types<LoopbackMaker, UcxMaker<Shm>, UcxMaker<Tcp>>;
TYPED_TEST_SUITE(ProbedTransportTest, Probed, MakerNames);

TYPED_TEST(ProbedTransportTest, BothWaysAreMeasuredAndExported) {
  this->Make(true, true, true);
  EXPECT_TRUE(this->Turn(
      [&] { return this->a_->Selected() && this->b_->Selected(); }));
  for (Side* side : {this->a_.get(), this->b_.get()}) {
    EXPECT_TRUE(side->Exports("forecache_transport_probed_bytes_per_second{"));
    EXPECT_TRUE(side->Exports("peer=\"0\"")) << side->metrics.Text();
    EXPECT_TRUE(side->Exports("transport=\"" +
                              this->to_b_->TransportName() + "\""));
    EXPECT_EQ(side->messages, 1) << "a probe's message reached the user";
  }
  EXPECT_EQ(this->a_->Exports("op=\"mailbox\""),
            this->to_b_->TransportName() == "shm");
  // The connection serves as before.
  ASSERT_TRUE(this->to_b_->Send(ToBytes("after"), {}, nullptr).ok());
  EXPECT_TRUE(this->Turn([&] { return this->b_->messages == 2; }));
  // What is gone is not exported as being there.
  this->a_->transport->Close(this->to_b_);
  EXPECT_FALSE(this->a_->Selected());
  EXPECT_TRUE(this->Turn([&] { return this->b_->gone == 1; }));
  EXPECT_FALSE(this->b_->Selected());
}

TYPED_TEST(ProbedTransportTest, OffSendsNothing) {
  this->Make(false, false, false);
  this->Turn([] { return false; }, 50 * kMillisecond);
  EXPECT_EQ(this->b_->messages, 1);
  EXPECT_FALSE(this->a_->Selected());
}

TYPED_TEST(ProbedTransportTest, OnePeerThatIsOffIsMeasuredOnly) {
  this->Make(true, true, false);
  EXPECT_TRUE(this->Turn([&] { return this->a_->Selected(); }));
  this->Turn([] { return false; }, 50 * kMillisecond);
  EXPECT_FALSE(this->b_->Selected());
  EXPECT_EQ(this->b_->messages, 1);
}

TYPED_TEST(ProbedTransportTest, APeerThatKnowsOfNoProbesIsServed) {
  this->Make(false, true, false);
  this->Turn([] { return false; }, kTransportProbeTimeout);
  // The question, and that it may measure, too.
  EXPECT_LE(this->b_->messages, 3);
  const int before = this->b_->messages;
  ASSERT_TRUE(this->to_b_->Send(ToBytes("after"), {}, nullptr).ok());
  EXPECT_TRUE(this->Turn([&] { return this->b_->messages == before + 1; }));
}

TYPED_TEST(ProbedTransportTest, AnEndInTheMiddleHurtsNobody) {
  for (int turns : {1, 20, 200}) {
    this->Make(true, true, true);
    for (int i = 0; i < turns; ++i) this->Turn([] { return true; });
    this->a_->transport->Close(this->to_b_);
    EXPECT_TRUE(this->Turn([&] { return this->b_->gone == 1; }));
    const Nanos start = Clock::Real()->Now();
    this->a_->probed->AwaitSettled(5 * kSecond);
    EXPECT_LT(Clock::Real()->Now() - start, 2 * kSecond);
    // Another pair takes its place; this one ends with its transports.
  }
  this->Make(true, true, true);
  this->a_->transport.reset();
  EXPECT_TRUE(this->b_->gone == 0);
}

}  // namespace
}  // namespace forecache
