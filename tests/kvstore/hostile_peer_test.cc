// Peers that mean harm, and corrections beside a load of bulk.
#include <gtest/gtest.h>

#include <vector>

#include "tests/kvstore/correction_fixture.h"
#include "tests/kvstore/manual_peer.h"

namespace forecache {
namespace {

using Bytes = ManualPeer::Bytes;

// A store, an honest client and a hostile peer, all moved by hand.
class HostilePeerTest : public StoreFixture {
 protected:
  HostilePeerTest()
      : context_(1, 2),
        plane_(store_.get(), std::make_unique<LoopbackTransport>(),
               {.push_buffers = 1}),
        client_(&client_transport_, &clock_) {
    NewSession opened = Open(context_);
    session_ = {opened.id, {opened.key[0], opened.key[1]}, kTestGeometry};
    FC_CHECK_OK(PutSegment(opened.id, context_, 0));
    to_store_ = *peer_.transport_.Connect(plane_.Address());
    absl::Status hello = absl::UnknownError("not yet");
    FC_CHECK_OK(client_.Connect(
        AddressOf(plane_), [&](const absl::Status& got) { hello = got; }));
    Greet(&peer_, to_store_, &plane_);
    Move();
    FC_CHECK_OK(hello);
  }

  void Move() {
    for (int i = 0; i < 40; ++i) {
      peer_.transport_.Progress();
      plane_.RunOnce();
      client_.Progress();
    }
  }
  Bytes Message(wire::MessageType type, const SessionHandle& session,
                ByteView body, ByteView payload) {
    return Packed(type, plane_.epoch(), ++id_, session, body, payload,
                  payload.size());
  }
  // Sends `header` until the store has had enough.  Returns how often.
  int FloodWith(const Bytes& header, const Bytes& payload) {
    int sent = 0;
    while (peer_.disconnects == 0 && sent < 2 * kPeerFaultsMax) {
      payloads_.push_back(payload);
      if (to_store_->Send(header, payloads_.back(),
                          [](const absl::Status&) {}).ok()) {
        ++sent;
      }
      peer_.transport_.Progress();
      plane_.RunOnce();
      plane_.RunOnce();
      peer_.transport_.Progress();
    }
    return sent;
  }
  void ExpectCutOffAndOthersServed(int sent) {
    EXPECT_EQ(peer_.disconnects, 1);
    EXPECT_LE(sent, kPeerFaultsMax + 3);
    EXPECT_EQ(store_->metrics().peers_cut_off->Value(), 1);
    KeepingSink sink;
    absl::Status done = absl::UnknownError("not yet");
    ASSERT_TRUE(client_
                    .Fetch(session_, 0, AllEntries(kTestGeometry, 16), &sink,
                           [&](const absl::Status& got) { done = got; })
                    .ok());
    Move();
    EXPECT_EQ(done, absl::OkStatus());
    EXPECT_EQ(sink.blocks.size(), 32);
  }

  TestContext context_;
  ManualPeer peer_;
  std::deque<Bytes> payloads_;
  DataPlane plane_;
  LoopbackTransport client_transport_;
  DataClient client_;
  Endpoint* to_store_;
  SessionHandle session_;
  uint64_t id_ = 0;
};

TEST_F(HostilePeerTest, FloodOfGarbageIsCutOff) {
  ExpectCutOffAndOthersServed(FloodWith(Bytes(90), {}));
}

TEST_F(HostilePeerTest, GuessingOfSessionsIsCutOff) {
  wire::FetchBody body{1, 0};
  wire::FetchEntry entry;
  Bytes payload(AsBytes(entry).begin(), AsBytes(entry).end());
  SessionHandle foreign = session_;
  foreign.key[0] ^= 1;
  Bytes header = Message(wire::MessageType::kFetch, foreign, AsBytes(body),
                         payload);
  ExpectCutOffAndOthersServed(FloodWith(header, payload));
  for (const Bytes& answer : peer_.headers) {
    EXPECT_EQ(answer[6], std::byte{9});  // ERROR, never a PUSH
  }
}

// One that guesses at HELLOs, or never says one.
TEST_F(HostilePeerTest, FloodBeforeAHelloIsCutOff) {
  ManualPeer stranger;
  Endpoint* to = *stranger.transport_.Connect(plane_.Address());
  const auto [hello, proof] = HelloMessage({"", "", plane_.epoch(), {}});
  const Bytes ping = Message(wire::MessageType::kPing, session_, {}, {});
  int sent = 0;
  while (stranger.disconnects == 0 && sent < 2 * kPeerFaultsMax) {
    const bool guess = sent++ % 2 == 0;
    stranger.Send(to, guess ? hello : ping, guess ? proof : Bytes());
    stranger.transport_.Progress();
    plane_.RunOnce();
    plane_.RunOnce();
    stranger.transport_.Progress();
  }
  EXPECT_EQ(stranger.disconnects, 1);
  EXPECT_LE(sent, kPeerFaultsMax + 3);
  EXPECT_EQ(peer_.disconnects, 0);
}

TEST_F(HostilePeerTest, BlocksOutOfRangeAreCutOff) {
  wire::FetchBody body{1, 0};
  wire::FetchEntry entry{.block = 0xFFFFFFFF, .kv_head = 0xFFFF};
  Bytes payload(AsBytes(entry).begin(), AsBytes(entry).end());
  Bytes header = Message(wire::MessageType::kFetch, session_, AsBytes(body),
                         payload);
  ExpectCutOffAndOthersServed(FloodWith(header, payload));
}

TEST_F(HostilePeerTest, OtherVersionIsCutOff) {
  Bytes header = Message(wire::MessageType::kHello, session_, {}, {});
  header[4] = std::byte{77};
  ExpectCutOffAndOthersServed(FloodWith(header, {}));
  EXPECT_GE(store_->metrics().refused_version->Value(), kPeerFaultsMax);
}

TEST_F(HostilePeerTest, FaultsOfLongAgoAreForgotten) {
  Bytes header(90);
  for (int i = 0; i < 3; ++i) {
    for (int sent = 0; sent < kPeerFaultsMax / 2; ++sent) {
      peer_.Send(to_store_, header, {});
      peer_.transport_.Progress();
      plane_.RunOnce();
    }
    clock_.Advance(kPeerFaultWindow + 1);
  }
  Move();
  EXPECT_EQ(peer_.disconnects, 0);
}

// Fields of a CORRECT that lie: each is answered by an error, none is read.
TEST_F(HostilePeerTest, LyingCorrectionsAreRefused) {
  const size_t good_bytes =
      CorrectPayloadBytes(kTestGeometry, 16, /*slots=*/2);
  wire::CorrectBody good{0, 16, 1.0f, 0, 16, 2, 0, 0};
  auto send = [&](const wire::CorrectBody& body, const Bytes& payload) {
    const size_t before = peer_.headers.size();
    peer_.Send(to_store_, Message(wire::MessageType::kCorrect, session_,
                                  AsBytes(body), payload),
               payload);
    Move();
    ASSERT_GT(peer_.headers.size(), before);
    EXPECT_EQ(peer_.Last().type(), wire::MessageType::kError);
    EXPECT_EQ(wire::BodyOf<wire::ErrorBody>(peer_.Last())->code,
              static_cast<uint32_t>(absl::StatusCode::kInvalidArgument));
  };
  Bytes payload(good_bytes);
  send(good, payload);  // slot_count sums to 0
  uint32_t* counts = reinterpret_cast<uint32_t*>(payload.data() + good_bytes -
                                                 2 * 8) - 2;
  counts[0] = 2;
  for (uint32_t lie : {66u, 0x80000000u, 0xFFFFFFFFu}) {
    wire::CorrectBody body = good;
    body.end = lie;
    send(body, payload);
    body = good;
    body.first = lie;
    send(body, payload);
    body = good;
    body.blocks = lie;
    send(body, payload);
    body = good;
    body.layer = lie;
    send(body, payload);
    body = good;
    body.slots = lie;
    send(body, payload);
    body = good;
    body.flags = lie & ~1u;
    send(body, payload);
  }
  counts[0] = 0xFFFFFFFF;
  counts[1] = 3;  // sums to 2 in 32 bits
  send(good, payload);
  counts[0] = 2;
  counts[1] = 0;
  payload.push_back({});
  send(good, payload);
  payload.resize(3);
  send(good, payload);
}

TEST_F(HostilePeerTest, CorrectionOvertakesBulk) {
  KeepingSink bulk;
  int fetched = 0;
  for (int i = 0; i < 200; ++i) {
    ASSERT_TRUE(client_
                    .Fetch(session_, i % 2, AllEntries(kTestGeometry, 16),
                           &bulk, [&](const absl::Status&) { ++fetched; })
                    .ok());
  }
  // The bulk is at the store before the correction sets out.
  client_.Progress();
  plane_.RunOnce();
  TestCorrection correction(kTestGeometry, 16, 3);
  KeepingCorrectSink sink;
  int fetched_before = -1;
  ASSERT_TRUE(client_
                  .Correct(session_, correction.Request(), &sink,
                           [&](const absl::Status& got) {
                             EXPECT_EQ(got, absl::OkStatus());
                             fetched_before = fetched;
                           })
                  .ok());
  for (int i = 0; i < 2000 && fetched < 200; ++i) {
    client_.Progress();
    plane_.RunOnce();
  }
  EXPECT_EQ(fetched, 200);
  EXPECT_EQ(sink.blocks.size(), 6);
  EXPECT_GE(fetched_before, 0);
  EXPECT_LE(fetched_before, 8);
}

// A peer that asks and takes nothing keeps its quota of buffers, not all.
TEST_F(HostilePeerTest, StalledPeerLeavesBuffersToOthers) {
  DataPlane plane(store_.get(), std::make_unique<LoopbackTransport>(),
                  {.push_buffers = 4, .peer_push_buffers = 2});
  auto stalled = std::make_unique<ManualPeer>();
  Endpoint* to_plane = *stalled->transport_.Connect(plane.Address());
  Greet(stalled.get(), to_plane, &plane);
  std::vector<wire::FetchEntry> entries = AllEntries(kTestGeometry, 16);
  const wire::FetchBody body{static_cast<uint32_t>(entries.size()), 0};
  const ByteView bytes = AsBytes(std::span<const wire::FetchEntry>(entries));
  const Bytes payload(bytes.begin(), bytes.end());
  for (int i = 0; i < 20; ++i) {
    stalled->Send(to_plane,
                  Message(wire::MessageType::kFetch, session_, AsBytes(body),
                          payload),
                  payload);
  }
  for (int i = 0; i < 40; ++i) plane.RunOnce();
  LoopbackTransport transport;
  DataClient client(&transport, &clock_);
  int fetched = 0;
  FC_CHECK_OK(client.Connect(AddressOf(plane), nullptr));
  KeepingSink sink;
  for (int i = 0; i < 10; ++i) {
    FC_CHECK_OK(client
                    .Fetch(session_, 0, entries, &sink,
                           [&](const absl::Status& got) {
                             EXPECT_EQ(got, absl::OkStatus());
                             ++fetched;
                           })
                    .status());
  }
  for (int i = 0; i < 100; ++i) {
    client.Progress();
    plane.RunOnce();
  }
  EXPECT_EQ(fetched, 10);
  EXPECT_TRUE(stalled->headers.empty());
  // What was the peer's to take goes on as it does.
  for (int i = 0; i < 100; ++i) {
    stalled->transport_.Progress();
    plane.RunOnce();
  }
  EXPECT_EQ(stalled->headers.size(), 20);
}

// What was cancelled is not scanned.
TEST_F(HostilePeerTest, CancelledProbesLeaveTheQueue) {
  const std::vector<float> q(2 * 2 * 32);
  const auto nothing = [](const absl::StatusOr<ProbeResult>&) {};
  std::vector<uint64_t> probes;
  for (int i = 0; i < 20; ++i) {
    auto probe = client_.Probe(session_, 0, 16, 1, q, nothing);
    FC_CHECK_OK(probe.status());
    probes.push_back(*probe);
  }
  for (uint64_t probe : probes) client_.Cancel(probe);
  Move();
  EXPECT_LE(store_->metrics().probes->Value(), 1);
  EXPECT_EQ(client_.requests_in_flight(), 0);
}

// With its requests first in line, a peer's turn still comes but once.
TEST_F(HostilePeerTest, PeersTakeTurns) {
  ManualPeer many;
  Endpoint* to_plane = *many.transport_.Connect(plane_.Address());
  Greet(&many, to_plane, &plane_);
  const wire::FetchBody body{1, 0};
  const wire::FetchEntry entry;
  const Bytes payload(AsBytes(entry).begin(), AsBytes(entry).end());
  for (int i = 0; i < 200; ++i) {
    many.Send(to_plane,
              Message(wire::MessageType::kFetch, session_, AsBytes(body),
                      payload),
              payload);
  }
  plane_.RunOnce();
  KeepingSink sink;
  bool fetched = false;
  FC_CHECK_OK(client_
                  .Fetch(session_, 0, std::span(&entry, 1), &sink,
                         [&](const absl::Status&) { fetched = true; })
                  .status());
  for (int i = 0; i < 1000 && !fetched; ++i) {
    client_.Progress();
    plane_.RunOnce();
    many.transport_.Progress();
  }
  EXPECT_TRUE(fetched);
  EXPECT_LT(many.headers.size(), 10);
}

// Whatever many bulk requests are under way, a correction may start.
TEST_F(HostilePeerTest, BulkLeavesRoomForCorrections) {
  std::vector<float> q(2 * 2 * 32);
  absl::Status status;
  int bulk = 0;
  while (status.ok()) {
    status = client_.Probe(session_, 0, 16, 1, q, nullptr).status();
    bulk += status.ok();
  }
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(bulk, kRequestsInFlightMax - kUrgentRequests);
  TestCorrection correction(kTestGeometry, 16, 1);
  KeepingCorrectSink sink;
  EXPECT_TRUE(
      client_.Correct(session_, correction.Request(), &sink, nullptr).ok());
}

}  // namespace
}  // namespace forecache
