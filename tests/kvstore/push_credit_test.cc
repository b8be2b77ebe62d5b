#include "kvstore/push_credit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "kvstore/data_plane.h"
#include "tests/kvstore/hello.h"
#include "tests/kvstore/manual_peer.h"
#include "tests/kvstore/store_fixture.h"

namespace forecache {
namespace {

TEST(PushCreditTest, BulkLeavesAQuarterToTheUrgent) {
  PushCredit credit(1000);
  EXPECT_TRUE(credit.Admits(5000, false));  // nothing is under way
  credit.Sent(700);
  EXPECT_TRUE(credit.Admits(50, false));
  EXPECT_FALSE(credit.Admits(51, false));
  EXPECT_TRUE(credit.Admits(300, true));
  EXPECT_FALSE(credit.Admits(301, true));
  EXPECT_TRUE(credit.Taken(700));
  EXPECT_TRUE(credit.Taken(300));  // overtaken on the way
  EXPECT_EQ(credit.under_way(), 0u);
  EXPECT_FALSE(credit.Taken(701));
}

TEST(PushCreditTest, WhatIsNeverHeardOfLapses) {
  PushCredit credit(1000);
  credit.Sent(1000);
  EXPECT_FALSE(credit.Starve(kSecond));
  EXPECT_FALSE(credit.Starve(kSecond + kPushCreditTimeout - 1));
  credit.Taken(1);  // a word of the worker
  EXPECT_FALSE(credit.Starve(2 * kSecond + kPushCreditTimeout));
  EXPECT_EQ(credit.under_way(), 999u);
  EXPECT_TRUE(credit.Starve(2 * kSecond + 2 * kPushCreditTimeout));
  EXPECT_EQ(credit.under_way(), 0u);
}

// A worker that takes what it is sent, but tells so by hand.
class PushCreditPlaneTest : public StoreFixture {
 protected:
  PushCreditPlaneTest()
      : context_(1, 1),
        plane_(store_.get(), std::make_unique<LoopbackTransport>(), {}) {
    const NewSession opened = Open(context_);
    session_ = {opened.id, {opened.key[0], opened.key[1]}, kTestGeometry};
    FC_CHECK_OK(PutSegment(opened.id, context_, 0));
    to_store_ = *peer_.transport_.Connect(plane_.Address());
    Greet(&peer_, to_store_, &plane_, kDefaultTenant, kPushCreditMin);
  }

  void Move() {
    for (int i = 0; i < 400; ++i) {
      peer_.transport_.Progress();
      plane_.RunOnce();
    }
  }
  void FetchAll() {
    std::vector<wire::FetchEntry> entries = AllEntries(kTestGeometry, 16);
    const wire::FetchBody body{static_cast<uint32_t>(entries.size()), 0};
    const ByteView bytes = AsBytes(std::span<const wire::FetchEntry>(entries));
    peer_.Send(to_store_,
               Packed(wire::MessageType::kFetch, plane_.epoch(), ++id_,
                      session_, AsBytes(body), bytes, bytes.size()),
               {bytes.begin(), bytes.end()});
  }
  void Tell(uint64_t taken) {
    peer_.Send(to_store_,
               Packed(wire::MessageType::kCredit, plane_.epoch(), ++id_, {},
                      AsBytes(wire::CreditBody{taken}), {}, 0),
               {});
  }
  // Payload bytes of the pushes that came; holds the store to its own total.
  uint64_t Pushed() {
    uint64_t pushed = 0, told = 0;
    for (size_t i = 0; i < peer_.headers.size(); ++i) {
      const auto message = wire::Parse(peer_.headers[i], peer_.payloads[i]);
      FC_CHECK_OK(message.status());
      if (message->type() != wire::MessageType::kPush) continue;
      pushed += message->payload.size();
      told = std::max(told, wire::BodyOf<wire::PushBody>(*message)->sent);
    }
    EXPECT_EQ(told, pushed);
    return pushed;
  }

  const TestContext context_;
  DataPlane plane_;
  ManualPeer peer_;
  Endpoint* to_store_ = nullptr;
  SessionHandle session_;
  uint64_t id_ = 10;
};

TEST_F(PushCreditPlaneTest, NoMoreIsUnderWayThanWasAnnounced) {
  constexpr int kFetches = 60;
  for (int i = 0; i < kFetches; ++i) FetchAll();
  uint64_t told = 0;
  int rounds = 0;
  for (; rounds < kFetches; ++rounds) {
    Move();
    const uint64_t pushed = Pushed();
    if (pushed == told) break;
    EXPECT_LE(pushed - told, kPushCreditMin / 4 * 3);
    told = pushed;
    Tell(told);
  }
  // All came, in several portions.
  const uint64_t fetch_bytes =
      32 * (sizeof(wire::PushEntry) + kTestGeometry.BlockBytes());
  EXPECT_EQ(told, kFetches * fetch_bytes);
  EXPECT_GT(rounds, 3);
}

TEST_F(PushCreditPlaneTest, SilenceLapsesOnceItLasted) {
  for (int i = 0; i < 30; ++i) FetchAll();
  Move();
  const uint64_t first = Pushed();
  Move();
  EXPECT_EQ(Pushed(), first);
  clock_.Advance(kPushCreditTimeout);
  Move();
  EXPECT_GT(Pushed(), first);
  EXPECT_EQ(store_->metrics().push_credits_lapsed->Value(), 1);
}

TEST_F(PushCreditPlaneTest, MoreThanWasSentIsRefused) {
  const double before = store_->metrics().refused_request->Value();
  Tell(1);
  Move();
  EXPECT_EQ(store_->metrics().refused_request->Value(), before + 1);
}

TEST_F(PushCreditPlaneTest, CreditsOutsideTheirLimitsAreRefused) {
  for (uint64_t credit :
       {uint64_t{0}, kPushCreditMin - 1, kPushCreditMax + 1}) {
    ManualPeer peer;
    Endpoint* to_store = *peer.transport_.Connect(plane_.Address());
    auto [header, payload] = HelloMessage(AddressOf(plane_), 1, credit);
    peer.Send(to_store, std::move(header), std::move(payload));
    for (int i = 0; i < 20; ++i) {
      peer.transport_.Progress();
      plane_.RunOnce();
    }
    ASSERT_EQ(peer.headers.size(), 1u);
    EXPECT_EQ(peer.Last().type(), wire::MessageType::kError) << credit;
  }
}

}  // namespace
}  // namespace forecache
