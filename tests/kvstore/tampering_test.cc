// Messages that are damaged, malformed or doubled on the way, by hand.
#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "tests/kvstore/data_plane_fixture.h"
#include "tests/kvstore/manual_peer.h"

namespace forecache {
namespace {

using Bytes = ManualPeer::Bytes;

// --- A store that hears from a peer which does not keep to the protocol -----

class StoreTamperingTest : public StoreFixture {
 protected:
  StoreTamperingTest()
      : plane_(store_.get(), std::make_unique<LoopbackTransport>(), {}) {
    to_store_ = *peer_.transport_.Connect(plane_.Address());
    Greet(&peer_, to_store_, &plane_);
    TestContext context(1, 1);
    NewSession opened = Open(context);
    session_ = {opened.id, {opened.key[0], opened.key[1]}, kTestGeometry};
  }

  void Send(Bytes header, Bytes payload = {}) {
    peer_.Send(to_store_, std::move(header), std::move(payload));
    for (int i = 0; i < 20; ++i) {
      peer_.transport_.Progress();
      plane_.RunOnce();
    }
  }
  Bytes Message(wire::MessageType type, ByteView body, ByteView payload) {
    return Packed(type, plane_.epoch(), 5, session_, body, payload,
                  payload.size());
  }
  // The code of the newest answer, which is an error.
  absl::StatusCode LastError() {
    if (peer_.headers.empty()) return absl::StatusCode::kOk;
    wire::Message message = peer_.Last();
    EXPECT_EQ(message.type(), wire::MessageType::kError);
    return static_cast<absl::StatusCode>(
        wire::BodyOf<wire::ErrorBody>(message)->code);
  }

  ManualPeer peer_;
  DataPlane plane_;
  Endpoint* to_store_;
  SessionHandle session_;
};

TEST_F(StoreTamperingTest, GarbageIsDroppedAndCounted) {
  Send(Bytes(3));
  Send(Bytes(200));
  Bytes ping = Message(wire::MessageType::kPing, {}, {});
  for (size_t byte = 6; byte < ping.size(); ++byte) {
    Bytes damaged = ping;
    damaged[byte] ^= std::byte{1};
    Send(damaged);
  }
  Bytes cut = ping;
  cut.pop_back();
  Send(cut);
  EXPECT_EQ(store_->metrics().refused_malformed->Value(), 2 + 58 + 1);
  EXPECT_TRUE(peer_.headers.empty());
  Send(ping);
  ASSERT_EQ(peer_.headers.size(), 1);
  EXPECT_EQ(peer_.Last().type(), wire::MessageType::kPong);
  EXPECT_EQ(peer_.Last().header.request_id, 5);
}

TEST_F(StoreTamperingTest, OtherVersionIsAnsweredWithThisOne) {
  Bytes hello = Message(wire::MessageType::kHello, {}, {});
  hello[4] = std::byte{9};
  Send(hello);
  EXPECT_EQ(LastError(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(peer_.Last().header.request_id, 0);
  EXPECT_EQ(store_->metrics().refused_version->Value(), 1);
}

TEST_F(StoreTamperingTest, WrongBodiesAndSizesAreAnswered) {
  wire::ProbeBody probe{0, 1, 1.0f, 0};
  wire::FetchBody fetch{3, 0};
  wire::PutBlocksBody put{0, 0, 1, 0};
  struct Case {
    wire::MessageType type;
    ByteView body;
    size_t payload_bytes;
  };
  const Case cases[] = {
      {wire::MessageType::kProbe, AsBytes(fetch), 0},
      {wire::MessageType::kProbe, AsBytes(probe), 7},
      {wire::MessageType::kProbe, AsBytes(probe), 8},
      {wire::MessageType::kFetch, AsBytes(probe), 48},
      {wire::MessageType::kFetch, AsBytes(fetch), 47},
      {wire::MessageType::kFetch, {}, 0},
      {wire::MessageType::kPutBlocks, AsBytes(fetch), 0},
      {wire::MessageType::kPutBlocks, AsBytes(put), 100},
      {wire::MessageType::kPush, {}, 0},
  };
  size_t answers = 0;
  for (const Case& c : cases) {
    Bytes payload(c.payload_bytes);
    Bytes header = Message(c.type, c.body, payload);
    Send(header, payload);
    ASSERT_EQ(peer_.headers.size(), ++answers);
    EXPECT_EQ(LastError(), absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(StoreTamperingTest, DamagedQueryIsRefused) {
  wire::ProbeBody probe{0, 1, 1.0f, 0};
  Bytes q(2 * 2 * 32 * 4);
  Bytes header = Message(wire::MessageType::kProbe, AsBytes(probe), q);
  q[11] ^= std::byte{64};
  Send(header, q);
  EXPECT_EQ(LastError(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(store_->metrics().refused_damaged->Value(), 1);
}

TEST_F(StoreTamperingTest, ErrorIsNeverAnswered) {
  wire::ErrorBody error{3, 0};
  Send(Message(wire::MessageType::kError, AsBytes(error), {}));
  EXPECT_TRUE(peer_.headers.empty());
}

TEST_F(StoreTamperingTest, FullQueueIsAnsweredBusy) {
  DataPlane plane(store_.get(), std::make_unique<LoopbackTransport>(),
                  {.push_buffers = 1, .queued_fetches = 2});
  Endpoint* to = *peer_.transport_.Connect(plane.Address());
  Greet(&peer_, to, &plane);
  wire::FetchBody fetch{1, 0};
  wire::FetchEntry entry;
  Bytes payload(AsBytes(entry).begin(), AsBytes(entry).end());
  // All of them arrive before any of them is worked off.
  for (int i = 0; i < 5; ++i) {
    peer_.Send(to, Message(wire::MessageType::kFetch, AsBytes(fetch), payload),
               payload);
  }
  for (int i = 0; i < 20; ++i) {
    peer_.transport_.Progress();
    plane.RunOnce();
  }
  EXPECT_EQ(store_->metrics().refused_busy->Value(), 3);
  EXPECT_EQ(peer_.headers.size(), 5);
}

// --- A worker that hears from a store which does not keep to it -------------

class ClientTamperingTest : public ::testing::Test {
 protected:
  ClientTamperingTest() {
    FC_CHECK_OK(client_.Connect({"", store_.transport_.Address(), 1, {}},
                                [this](const absl::Status& got) {
                                  hello_ = got;
                                }));
    Move();
    entries_ = {{0, 0, 0, 10, 1}, {1, 0, 0, 11, 1}};
  }

  void Move() {
    for (int i = 0; i < 10; ++i) {
      store_.transport_.Progress();
      client_.Progress();
    }
  }
  void Fetch() {
    auto id = client_.Fetch(session_, 0, entries_, &sink_,
                            [this](const absl::Status& got) {
                              done_ = got;
                              ++ended_;
                            });
    FC_CHECK_OK(id.status());
    id_ = *id;
    Move();
  }
  // A push of both entries with good bytes; `damage` may change the payload,
  // before the CRC of its table is taken when `early`.
  void Push(const std::function<void(Bytes*)>& damage, bool early) {
    std::vector<wire::PushEntry> table;
    for (const wire::FetchEntry& entry : entries_) {
      table.push_back({entry.block, entry.kv_head, 0, entry.slot,
                       entry.generation,
                       {Crc32c(part_), Crc32c(part_)}});
    }
    ByteView table_bytes = AsBytes(std::span<const wire::PushEntry>(table));
    Bytes payload(table_bytes.begin(), table_bytes.end());
    for (int i = 0; i < 4; ++i) {
      payload.insert(payload.end(), part_.begin(), part_.end());
    }
    wire::PushBody body{2, 1};
    if (early) damage(&payload);
    Bytes header = Packed(wire::MessageType::kPush, 1, id_, session_,
                          AsBytes(body), payload, table_bytes.size());
    if (!early) damage(&payload);
    store_.Send(store_.peer, header, payload);
    Move();
  }

  FakeClock clock_;
  ManualPeer store_;
  LoopbackTransport transport_;
  DataClient client_{&transport_, &clock_};
  SessionHandle session_{1, {2, 3}, kTestGeometry};
  std::vector<wire::FetchEntry> entries_;
  Bytes part_ = Bytes(kTestGeometry.PartBytes(), std::byte{42});
  KeepingSink sink_;
  absl::Status hello_ = absl::UnknownError("not yet");
  absl::Status done_;
  uint64_t id_ = 0;
  int ended_ = 0;
};

constexpr size_t kTableBytes = 2 * sizeof(wire::PushEntry);

TEST_F(ClientTamperingTest, GoodPushArrives) {
  Fetch();
  Push([](Bytes*) {}, false);
  EXPECT_EQ(sink_.blocks.size(), 2);
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(done_, absl::OkStatus());
  Push([](Bytes*) {}, false);  // doubled on the way
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(client_.counters().answers_late, 1);
  EXPECT_EQ(client_.counters().messages_refused, 0);
}

TEST_F(ClientTamperingTest, DamagedPartIsRefused) {
  Fetch();
  Push([](Bytes* payload) { payload->back() ^= std::byte{1}; }, false);
  EXPECT_EQ(sink_.blocks.size(), 1);
  EXPECT_TRUE(absl::IsDataLoss((sink_.failed[{0, 1}])));
  EXPECT_EQ(client_.counters().blocks_refused, 1);
  EXPECT_EQ(done_, absl::OkStatus());
}

TEST_F(ClientTamperingTest, DamagedTableEndsTheFetch) {
  for (size_t byte = 0; byte < kTableBytes; ++byte) {
    sink_ = KeepingSink();
    Fetch();
    Push([&](Bytes* payload) { (*payload)[byte] ^= std::byte{1}; }, false);
    EXPECT_TRUE(absl::IsDataLoss(done_)) << byte;
    EXPECT_TRUE(sink_.blocks.empty());
    EXPECT_EQ(sink_.failed.size(), 2);
  }
}

TEST_F(ClientTamperingTest, BlockThatWasNotAskedForIsDropped) {
  // Block, KV head, slot, generation, layer.
  for (size_t byte : {0, 4, 8, 12, 24}) {
    sink_ = KeepingSink();
    Fetch();
    Push([&](Bytes* payload) { (*payload)[byte] ^= std::byte{64}; }, true);
    EXPECT_EQ(sink_.blocks.size(), 1) << byte;
    EXPECT_TRUE(sink_.failed.empty());
    client_.Cancel(id_);
    EXPECT_EQ(sink_.failed.size(), 1);
  }
}

TEST_F(ClientTamperingTest, CutPushEndsTheFetch) {
  Fetch();
  Push([](Bytes* payload) { payload->resize(payload->size() - 1); }, true);
  EXPECT_TRUE(absl::IsDataLoss(done_));
  EXPECT_EQ(sink_.blocks.size(), 1);
  EXPECT_EQ(sink_.failed.size(), 1);
}

TEST_F(ClientTamperingTest, DamagedScoresAreRefused) {
  std::vector<float> q(2 * 2 * 32);
  absl::Status got;
  FC_CHECK_OK(client_.Probe(session_, 0, 1, 1, q,
                            [&](const absl::StatusOr<ProbeResult>& result) {
                              got = result.status();
                            }).status());
  Move();
  Bytes scores(4 * 4 + 4 * 2);
  wire::ProbeReplyBody body{0, 1};
  Bytes header =
      Packed(wire::MessageType::kProbeReply, 1,
             store_.Last().header.request_id, session_, AsBytes(body), scores,
             scores.size());
  scores[20] ^= std::byte{8};
  store_.Send(store_.peer, header, scores);
  Move();
  EXPECT_TRUE(absl::IsDataLoss(got)) << got;
}

TEST_F(ClientTamperingTest, OtherVersionEndsTheHello) {
  Bytes answer = Packed(wire::MessageType::kHelloAck, 1,
                        store_.Last().header.request_id, {}, {}, {}, 0);
  answer[4] = std::byte{9};
  store_.Send(store_.peer, answer, {});
  Move();
  EXPECT_TRUE(absl::IsFailedPrecondition(hello_)) << hello_;
}

TEST_F(ClientTamperingTest, SilentHelloEnds) {
  clock_.Advance(kConnectTimeout);
  client_.Progress();
  EXPECT_TRUE(absl::IsDeadlineExceeded(hello_)) << hello_;
}

}  // namespace
}  // namespace forecache
