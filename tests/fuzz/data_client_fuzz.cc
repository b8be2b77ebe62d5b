// A worker's data client under a store that may answer anything: what reaches
// the sinks matches its checksums and was asked for, and every request ends
// once.
#include <algorithm>
#include <deque>
#include <map>
#include <memory>
#include <set>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/testing/fake_clock.h"
#include "kvstore/client/data_client.h"
#include "tests/fuzz/messages.h"
#include "tests/kvstore/context.h"
#include "transport/loopback_transport.h"

namespace forecache::fuzz {
namespace {

constexpr uint32_t kEpoch = 1;
constexpr int kBlocks = 16;
constexpr uint32_t kSlotsOfAHead = 2;

const TestContext& Context() {
  static const TestContext context(1, 1);
  return context;
}

// The store's side: remembers which requests came.
//
// Threads: one.
class Store : public MessageHandler {
 public:
  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override {
    const auto message = wire::Parse(header, payload);
    FC_CHECK_OK(message.status());
    peer = from;
    requests.push_back(message->header.request_id);
  }
  void OnDisconnect(Endpoint*, const absl::Status&) override {
    peer = nullptr;
  }
  Endpoint* peer = nullptr;
  std::vector<uint64_t> requests;  // [0] is the HELLO
};

void CheckParts(const wire::PushEntry& entry, ByteView k, ByteView v) {
  FC_CHECK(k.size() == kTestGeometry.PartBytes() && k.size() == v.size());
  FC_CHECK(Crc32c(k) == entry.checksums.k && Crc32c(v) == entry.checksums.v);
}

// Threads: one.
class Fetched : public BlockSink {
 public:
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    CheckParts(entry, k, v);
    FC_CHECK(layer == 1 && entry.block < kBlocks);
    FC_CHECK(told.insert({entry.kv_head, entry.block}).second);
  }
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override {
    FC_CHECK(layer == 1 && !why.ok());
    FC_CHECK(told.insert({entry.kv_head, entry.block}).second);
  }
  std::set<std::pair<int, uint32_t>> told;
};

// Threads: one.
class Corrected : public CorrectSink {
 public:
  void OnBlock(int, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    CheckParts(entry, k, v);
    FC_CHECK(entry.block < kBlocks);
    FC_CHECK(told.insert(entry.slot).second);
  }
  void OnSlotReturned(int, int, const wire::OfferedSlot& slot,
                      const absl::Status&) override {
    FC_CHECK(told.insert(slot.slot).second);
  }
  void OnCorrected(const CorrectResult& result) override {
    FC_CHECK(++replies == 1);
    FC_CHECK(result.heads.size() == size_t(kTestGeometry.kv_heads));
    FC_CHECK(result.lse.size() ==
             size_t(kTestGeometry.kv_heads * kTestGeometry.group));
  }
  std::set<uint32_t> told;
  int replies = 0;
};

// A client that has just asked for one thing of each kind.
//
// Threads: one.
class World {
 public:
  World() : client_(&client_transport_, &clock_) {
    store_transport_.SetHandler(&store_);
    const StoreAddress store = {"", store_transport_.Address(), kEpoch, {}};
    FC_CHECK_OK(client_.Connect(
        store, [this](const absl::Status&) { ++ended_[0]; }));
    Move();
  }

  void Ask() {
    const SessionHandle handle = {7, {8, 9}, kTestGeometry};
    const KvGeometry& geometry = kTestGeometry;
    const std::vector<float> q(
        geometry.kv_heads * geometry.group * geometry.head_dim, 0.5f);
    FC_CHECK_OK(client_
                    .Fetch(handle, 1, AllEntries(geometry, kBlocks), &fetched_,
                           End(1))
                    .status());
    const auto probe = client_.Probe(
        handle, 0, kBlocks, 0.2f, q,
        [end = End(2)](const absl::StatusOr<ProbeResult>& result) {
          FC_CHECK(!result.ok() ||
                   result->log_probability.size() ==
                       size_t(kTestGeometry.kv_heads * kTestGeometry.group *
                              kBlocks));
          end(result.status());
        });
    FC_CHECK_OK(probe.status());
    const std::vector<uint64_t> resident(geometry.kv_heads);
    const std::vector<uint32_t> counts(geometry.kv_heads, kSlotsOfAHead);
    std::vector<wire::OfferedSlot> slots;
    for (uint32_t i = 0; i < kSlotsOfAHead * geometry.kv_heads; ++i) {
      slots.push_back({i, i});
    }
    CorrectRequest correct{.layer = 0, .blocks = kBlocks, .scale = 0.2f};
    correct.q = q;
    correct.end = kBlocks;
    correct.resident = resident;
    correct.slot_count = counts;
    correct.slots = slots;
    correct.wants_tail = true;
    FC_CHECK_OK(
        client_.Correct(handle, correct, &corrected_, End(3)).status());
    FC_CHECK_OK(client_.PutBlocks(handle, 0, 0, 1,
                                  Context().PutPayload(0, 0, 1), End(4)));
    Move();
  }

  // `messages` name the requests by their place: 0 HELLO, 1 FETCH ...
  void Run(std::vector<RawMessage> messages) {
    AnswerHello();
    Ask();
    for (RawMessage& message : messages) {
      ChangeHeader(&message, [&](wire::WireHeader* header) {
        if (header->request_id < store_.requests.size()) {
          header->request_id = store_.requests[header->request_id];
        }
        header->epoch = kEpoch;
      });
      if (store_.peer == nullptr) break;
      (void)store_.peer->Send(View(message.header), View(message.payload),
                              [](const absl::Status&) {});
      Move();
    }
    clock_.Advance(kRequestTimeout + kSecond);
    Move();
    FC_CHECK(client_.requests_in_flight() == 0);
    for (int i = 0; i < 5; ++i) {
      FC_CHECK(ended_[i] == 1) << "request " << i << " ended " << ended_[i];
    }
    FC_CHECK(fetched_.told.size() ==
             size_t(kBlocks * kTestGeometry.kv_heads));
    FC_CHECK(corrected_.told.size() ==
             size_t(kSlotsOfAHead * kTestGeometry.kv_heads));
  }

 private:
  DataClient::Done End(int request) {
    return [this, request](const absl::Status&) { ++ended_[request]; };
  }
  void AnswerHello() {
    wire::WireHeader header;
    header.type = static_cast<uint16_t>(wire::MessageType::kHelloAck);
    header.epoch = kEpoch;
    header.request_id = store_.requests[0];
    const RawMessage message = Whole(header, {}, {});
    (void)store_.peer->Send(View(message.header), {},
                            [](const absl::Status&) {});
    Move();
  }
  void Move() {
    for (int i = 0; i < 4; ++i) {
      client_.Progress();
      store_transport_.Progress();
    }
  }

  FakeClock clock_;
  LoopbackTransport client_transport_;
  LoopbackTransport store_transport_;
  Store store_;
  Fetched fetched_;
  Corrected corrected_;
  std::map<int, int> ended_;
  DataClient client_;
};

wire::WireHeader Header(wire::MessageType type, uint64_t request) {
  wire::WireHeader header;
  header.type = static_cast<uint16_t>(type);
  header.request_id = request;
  return header;
}

void Append(ByteView view, Bytes* to) {
  const Bytes bytes = ToBytes(view);
  to->insert(to->end(), bytes.begin(), bytes.end());
}

// A push of blocks [first, first + 2) of one head; slots count from `slot`.
RawMessage Push(uint64_t request, int layer, int head, uint32_t first,
                uint32_t slot) {
  Bytes payload, parts;
  for (uint32_t i = 0; i < 2; ++i) {
    const ByteView k = Context().Part(layer, head, first + i, false);
    const ByteView v = Context().Part(layer, head, first + i, true);
    const wire::PushEntry entry{first + i,
                                static_cast<uint16_t>(head),
                                0,
                                slot + i,
                                request == 1 ? 7u : slot + i,
                                {Crc32c(k), Crc32c(v)},
                                static_cast<uint32_t>(layer)};
    Append(AsBytes(entry), &payload);
    Append(k, &parts);
    Append(v, &parts);
  }
  Append(View(parts), &payload);
  const wire::PushBody body{2, 1};
  RawMessage message = Whole(Header(wire::MessageType::kPush, request),
                             AsBytes(body), View(payload));
  ChangeHeader(&message, [&](wire::WireHeader* header) {
    wire::DescribePayload(View(payload), 2 * sizeof(wire::PushEntry), header);
  });
  return message;
}

}  // namespace

std::vector<Bytes> Seeds() {
  using wire::MessageType;
  const KvGeometry& geometry = kTestGeometry;
  const int rows = geometry.kv_heads * geometry.group;
  const wire::ProbeReplyBody scores_body{0, kBlocks};
  const Bytes scores(rows * (sizeof(float) + 2 * kBlocks), 0x40);
  const auto probe_reply = Whole(Header(MessageType::kProbeReply, 2),
                                 AsBytes(scores_body), View(scores));
  const wire::CorrectReplyBody corrected_body{0, kBlocks,
                                              wire::kCorrectWantsTail, 0};
  Bytes heads;
  for (int head = 0; head < geometry.kv_heads; ++head) {
    const wire::CorrectedHead corrected{kSlotsOfAHead, 0.1f, 0.2f, 0};
    Append(AsBytes(corrected), &heads);
  }
  // Log-sum-exps, then the tail.
  heads.resize(heads.size() + 2 * rows * sizeof(float) +
                   2 * rows * geometry.head_dim * sizeof(uint16_t),
               0x40);
  const auto correct_reply = Whole(Header(MessageType::kCorrectReply, 3),
                                   AsBytes(corrected_body), View(heads));
  const auto put_ack = Whole(Header(MessageType::kPutAck, 4), {}, {});
  const wire::ErrorBody error_body{5, 0};
  const Bytes reason = {'w', 'h', 'y'};
  const auto error = Whole(Header(MessageType::kError, 1), AsBytes(error_body),
                           View(reason));
  return {Join({Push(1, 1, 0, 2, 2), probe_reply, put_ack}),
          Join({Push(3, 0, 0, 4, 0), Push(3, 0, 1, 2, 2), correct_reply}),
          Join({correct_reply, Push(3, 0, 0, 4, 0)}),
          Join({error, put_ack, put_ack, probe_reply})};
}

void Repair(Bytes* input, Rng*) { RepairMessages(input); }

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  forecache::fuzz::World world;
  world.Run(forecache::fuzz::Split(data, size));
  return 0;
}
