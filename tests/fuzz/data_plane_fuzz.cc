// A store's data plane under messages of a peer that may say anything, with a
// session of its own: it stays up, keeps its bounds, and an honest peer still
// reads what was put.
#include <algorithm>
#include <deque>
#include <memory>

#include "common/check.h"
#include "common/metrics.h"
#include "common/testing/fake_clock.h"
#include "kvstore/data_plane.h"
#include "tests/fuzz/messages.h"
#include "tests/kvstore/context.h"
#include "tests/kvstore/hello.h"
#include "transport/loopback_transport.h"

namespace forecache::fuzz {
namespace {

constexpr int kInputsOfAWorld = 256;  // then a fresh store
constexpr size_t kStoreBytes = size_t{4} << 20;
constexpr uint64_t kOwnSession = 1;  // stands for the hostile peer's session

// Takes what is sent and forgets it.
//
// Threads: one.
class Silent : public MessageHandler {
 public:
  void OnMessage(Endpoint*, ByteView, ByteView) override {}
  void OnDisconnect(Endpoint* from, const absl::Status&) override {
    if (from == to_store) to_store = nullptr;
  }
  Endpoint* to_store = nullptr;
};

// Threads: one.
class Reader : public BlockSink {
 public:
  explicit Reader(const TestContext& context) : context_(context) {}
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    FC_CHECK(std::ranges::equal(
        k, context_.Part(layer, entry.kv_head, entry.block, false)));
    FC_CHECK(std::ranges::equal(
        v, context_.Part(layer, entry.kv_head, entry.block, true)));
    ++read;
  }
  void OnBlockFailed(int, const wire::FetchEntry&,
                     const absl::Status& why) override {
    FC_CHECK(false) << why.ToString();
  }
  int read = 0;

 private:
  const TestContext& context_;
};

// Threads: one.
class World {
 public:
  World()
      : context_(1, 2),
        store_(MakeStore(&clock_, &metrics_)),
        plane_(store_.get(), std::make_unique<LoopbackTransport>(),
               {.push_buffers = 2, .peer_push_buffers = 1}),
        client_(&client_transport_, &clock_),
        honest_(Open()),
        hostile_(Open()) {
    Put(honest_.id, 0);
    FC_CHECK_OK(store_->SealSegment(honest_.id, 0, context_.SegmentTokens(0))
                    .status());
    Put(hostile_.id, 0);
    bool there = false;
    FC_CHECK_OK(client_.Connect(
        AddressOf(plane_),
        [&](const absl::Status& hello) { there = hello.ok(); }));
    Move(nullptr, [&] { return there; });
  }

  void Run(std::vector<RawMessage> messages) {
    LoopbackTransport transport;
    Silent peer;
    transport.SetHandler(&peer);
    peer.to_store = *transport.Connect(plane_.Address());
    const auto [hello, proof] = HelloMessage(AddressOf(plane_));
    FC_CHECK_OK(peer.to_store->Send(hello, proof, [](const absl::Status&) {}));
    Move(&transport, [] { return false; });
    clock_.Advance(kHelloGrantTimeout);  // they are given out sparingly
    for (RawMessage& message : messages) {
      ChangeHeader(&message, [&](wire::WireHeader* header) {
        header->epoch = plane_.epoch();
        if (header->session_id != kOwnSession) return;
        header->session_id = hostile_.id;
        std::copy(hostile_.key, hostile_.key + 2, header->session_key);
      });
      if (peer.to_store == nullptr) break;
      (void)peer.to_store->Send(View(message.header), View(message.payload),
                                [](const absl::Status&) {});
      transport.Progress();
      plane_.RunOnce();
    }
    Move(&transport, [] { return false; });
    FC_CHECK(store_->Occupancy().dram_bytes <= kStoreBytes);
    ReadBack();
  }

 private:
  static std::unique_ptr<StoreCore> MakeStore(Clock* clock, Metrics* metrics) {
    StoreOptions options;
    options.dram_bytes = kStoreBytes;
    options.tenant_secret = TenantSecret::FromPhrase("fuzz");
    options.session_idle_timeout = kInputsOfAWorld * kSecond * 1000;
    return *StoreCore::Create(options, clock, metrics);
  }
  NewSession Open() {
    return *store_->OpenSession(TestModel(), context_.tokens(), "fuzz");
  }
  void Put(uint64_t id, int segment) {
    for (int layer = 0; layer < kTestGeometry.layers; ++layer) {
      FC_CHECK_OK(store_->PutBlocks(
          *store_->Snapshot(id), layer, segment * kSegmentBlocks,
          kSegmentBlocks,
          context_.PutPayload(layer, segment * kSegmentBlocks,
                              kSegmentBlocks)));
    }
  }
  // Until `done`, or nothing happens any more.
  template <typename Done>
  void Move(Transport* other, const Done& done) {
    for (int idle = 0; idle < 3 && !done();) {
      int events = plane_.RunOnce() + client_.Progress();
      if (other != nullptr) events += other->Progress();
      idle = events > 0 ? 0 : idle + 1;
    }
  }
  void ReadBack() {
    Reader reader(context_);
    const SessionHandle handle = {
        honest_.id, {honest_.key[0], honest_.key[1]}, kTestGeometry};
    bool ended = false;
    FC_CHECK_OK(client_
                    .Fetch(handle, 1, AllEntries(kTestGeometry, 16), &reader,
                           [&](const absl::Status& end) {
                             FC_CHECK_OK(end);
                             ended = true;
                           })
                    .status());
    Move(nullptr, [&] { return ended; });
    FC_CHECK(ended && reader.read == 16 * kTestGeometry.kv_heads)
        << reader.read;
  }

  const TestContext context_;
  FakeClock clock_;
  Metrics metrics_;
  const std::unique_ptr<StoreCore> store_;
  DataPlane plane_;
  LoopbackTransport client_transport_;
  DataClient client_;
  const NewSession honest_;
  const NewSession hostile_;
};

wire::WireHeader Header(wire::MessageType type, uint64_t id) {
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(type);
  header.request_id = id;
  header.session_id = kOwnSession;
  return header;
}

template <typename T>
ByteView Span(const std::vector<T>& items) {
  return AsBytes(std::span<const T>(items));
}

}  // namespace

std::vector<Bytes> Seeds() {
  using wire::MessageType;
  const TestContext context(1, 2);
  const KvGeometry& geometry = kTestGeometry;
  const auto hello = Whole(Header(MessageType::kHello, 1), {}, {});
  const wire::PutBlocksBody put_body{1, 16, 2, 0};
  const auto put = Whole(Header(MessageType::kPutBlocks, 2), AsBytes(put_body),
                         context.PutPayload(1, 16, 2));
  std::vector<wire::FetchEntry> entries = AllEntries(geometry, 16);
  entries[3].layer = 1;
  const wire::FetchBody fetch_body{static_cast<uint32_t>(entries.size()), 0};
  const auto fetch = Whole(Header(MessageType::kFetch, 3),
                           AsBytes(fetch_body), Span(entries));
  const std::vector<float> q(geometry.kv_heads * geometry.group *
                             geometry.head_dim, 0.5f);
  const wire::ProbeBody probe_body{0, 16, 0.2f, 0};
  const auto probe = Whole(Header(MessageType::kProbe, 4), AsBytes(probe_body),
                           Span(q));
  // resident, queries, local lse, slot counts, slots: words of 32 bits.
  std::vector<float> correction(2 * geometry.kv_heads, 0.0f);
  correction.insert(correction.end(), q.begin(), q.end());
  correction.insert(correction.end(), geometry.kv_heads * geometry.group,
                    -3.0f);
  correction.insert(correction.end(), geometry.kv_heads,
                    std::bit_cast<float>(uint32_t{2}));
  for (uint32_t i = 0; i < 4 * geometry.kv_heads; ++i) {
    correction.push_back(std::bit_cast<float>(i));
  }
  const wire::CorrectBody correct_body{
      0, 16, 0.2f, 0, 16, 2u * geometry.kv_heads, 0,
      wire::kCorrectFlagsKnown};
  const auto correct = Whole(Header(MessageType::kCorrect, 5),
                             AsBytes(correct_body), Span(correction));
  const auto cancel = Whole(Header(MessageType::kCancel, 3), {}, {});
  const auto ping = Whole(Header(MessageType::kPing, 6), {}, {});
  return {Join({hello, put, fetch}), Join({hello, probe, correct}),
          Join({fetch, cancel, ping}), Join({put, put, probe, fetch, correct})};
}

void Repair(Bytes* input, Rng*) { RepairMessages(input); }

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using forecache::fuzz::World;
  static std::unique_ptr<World> world;
  static int inputs = 0;
  if (inputs++ % forecache::fuzz::kInputsOfAWorld == 0) {
    world = nullptr;
    world = std::make_unique<World>();
  }
  world->Run(forecache::fuzz::Split(data, size));
  return 0;
}
