// Who may speak on the data plane.
#include "tests/kvstore/hello.h"

#include <gtest/gtest.h>

#include "tests/kvstore/data_plane_fixture.h"

namespace forecache {
namespace {

using Bytes = ManualPeer::Bytes;

class HelloTest : public StoreFixture {
 protected:
  HelloTest()
      : plane_(store_.get(), std::make_unique<LoopbackTransport>(), {}),
        context_(1, 1) {
    to_store_ = *peer_.transport_.Connect(plane_.Address());
    const NewSession opened = Open(context_);
    session_ = {opened.id, {opened.key[0], opened.key[1]}, kTestGeometry};
    FC_CHECK_OK(PutSegment(opened.id, context_, 0));
  }

  void Send(Bytes header, Bytes payload) {
    peer_.Send(to_store_, std::move(header), std::move(payload));
    for (int i = 0; i < 20; ++i) {
      peer_.transport_.Progress();
      plane_.RunOnce();
    }
  }
  // The code of the newest answer; kOk when it is no error.
  absl::StatusCode Answer() {
    FC_CHECK(!peer_.headers.empty());
    const wire::Message message = peer_.Last();
    if (message.type() != wire::MessageType::kError) {
      return absl::StatusCode::kOk;
    }
    return static_cast<absl::StatusCode>(
        wire::BodyOf<wire::ErrorBody>(message)->code);
  }
  absl::StatusCode AnswerTo(const std::pair<Bytes, Bytes>& message) {
    Send(message.first, message.second);
    return Answer();
  }
  std::pair<Bytes, Bytes> Fetch() {
    const wire::FetchBody body{1, 0};
    const wire::FetchEntry entry;
    Bytes payload(AsBytes(entry).begin(), AsBytes(entry).end());
    return {Packed(wire::MessageType::kFetch, plane_.epoch(), 9, session_,
                   AsBytes(body), payload, payload.size()),
            payload};
  }

  static constexpr auto kOk = absl::StatusCode::kOk;
  static constexpr auto kRefused = absl::StatusCode::kUnauthenticated;
  DataPlane plane_;
  TestContext context_;
  ManualPeer peer_;
  Endpoint* to_store_;
  SessionHandle session_;
};

TEST_F(HelloTest, NothingIsHeardBefore) {
  EXPECT_EQ(AnswerTo(Fetch()), kRefused);  // with the session's own key
  for (auto type : {wire::MessageType::kPing, wire::MessageType::kCancel,
                    wire::MessageType::kPutBlocks, wire::MessageType::kProbe,
                    wire::MessageType::kCorrect}) {
    Send(Packed(type, plane_.epoch(), 2, session_, {}, {}, 0), {});
    EXPECT_EQ(Answer(), kRefused);
  }
  EXPECT_EQ(store_->metrics().refused_hello->Value(), 6);
  EXPECT_EQ(AnswerTo(HelloMessage(AddressOf(plane_))), kOk);
  EXPECT_EQ(AnswerTo(Fetch()), kOk);
}

TEST_F(HelloTest, NeedsAProof) {
  Send(Packed(wire::MessageType::kHello, plane_.epoch(), 1, {}, {}, {}, 0), {});
  EXPECT_EQ(Answer(), kRefused);
  StoreAddress store = AddressOf(plane_);
  StoreAddress other_key = store;
  other_key.grant.key[31] ^= 1;
  EXPECT_EQ(AnswerTo(HelloMessage(other_key)), kRefused);
  StoreAddress other_grant = store;
  other_grant.grant.id ^= 1;
  EXPECT_EQ(AnswerTo(HelloMessage(other_grant)), kRefused);
  // The proof is of this request, and no other.
  auto [header, payload] = HelloMessage(store, 1);
  Send(Packed(wire::MessageType::kHello, plane_.epoch(), 2, {}, {}, payload,
              payload.size()),
       payload);
  EXPECT_EQ(Answer(), kRefused);
  EXPECT_EQ(AnswerTo(Fetch()), kRefused);
  // None of them used the grant up.
  EXPECT_EQ(AnswerTo(HelloMessage(store)), kOk);
}

TEST_F(HelloTest, IsWorthNothingTwice) {
  const auto hello = HelloMessage(AddressOf(plane_));
  EXPECT_EQ(AnswerTo(hello), kOk);
  ManualPeer other;
  Endpoint* to = *other.transport_.Connect(plane_.Address());
  other.Send(to, hello.first, hello.second);
  for (int i = 0; i < 10; ++i) {
    other.transport_.Progress();
    plane_.RunOnce();
  }
  ASSERT_EQ(other.headers.size(), 1);
  EXPECT_EQ(other.Last().type(), wire::MessageType::kError);
}

TEST_F(HelloTest, ExpiresByTheMonotonicClock) {
  const auto hello = HelloMessage(AddressOf(plane_));
  const auto late = HelloMessage(AddressOf(plane_));
  clock_.Advance(kHelloGrantTimeout);
  EXPECT_EQ(AnswerTo(hello), kOk);
  clock_.Advance(1);
  EXPECT_EQ(AnswerTo(late), kRefused);
}

TEST_F(HelloTest, GrantsAreBoundedByTenant) {
  const TenantId greedy = *store_->tenants().Intern("greedy");
  for (int i = 0; i < kHelloGrantsMax; ++i) {
    ASSERT_TRUE(plane_.Invite(greedy).ok());
  }
  EXPECT_TRUE(absl::IsResourceExhausted(plane_.Invite(greedy).status()));
  EXPECT_TRUE(plane_.Invite(kDefaultTenant).ok());
  clock_.Advance(kHelloGrantTimeout + 1);
  EXPECT_TRUE(plane_.Invite(greedy).ok());
}

TEST_F(HelloTest, AnothersSessionIsNoSession) {
  const TenantId other = *store_->tenants().Intern("other-tenant");
  Greet(&peer_, to_store_, &plane_, other);
  EXPECT_EQ(AnswerTo(Fetch()), kRefused);  // though the key is the session's
  EXPECT_EQ(store_->metrics().refused_session->Value(), 1);
}

TEST_F(HelloTest, ClientWithoutAGrantIsTold) {
  LoopbackTransport transport;
  DataClient client(&transport, &clock_);
  absl::Status hello;
  ASSERT_TRUE(client
                  .Connect({"store", plane_.Address(), plane_.epoch(), {}},
                           [&](const absl::Status& got) { hello = got; })
                  .ok());
  for (int i = 0; i < 10; ++i) {
    client.Progress();
    plane_.RunOnce();
  }
  EXPECT_TRUE(absl::IsUnauthenticated(hello)) << hello;
}

}  // namespace
}  // namespace forecache
