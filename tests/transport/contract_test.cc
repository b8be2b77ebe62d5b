// What every Transport promises about messages and puts.

#include <cstring>

#include "common/limits.h"
#include "gtest/gtest.h"
#include "tests/transport/contract.h"

namespace forecache {
namespace {

TYPED_TEST_SUITE(ContractTest, Makers, MakerNames);

TYPED_TEST(ContractTest, AddressIsBounded) {
  const std::string address = this->a_.transport->Address();
  EXPECT_FALSE(address.empty());
  EXPECT_LE(address.size(), size_t{64} << 10);
  EXPECT_FALSE(this->a_.transport->Connect("no address of ours").ok());
  EXPECT_FALSE(this->a_.transport->Connect("").ok());
}

TYPED_TEST(ContractTest, MessagesOfEverySizeArriveWhole) {
  Endpoint* to_b = this->ConnectAToB();
  const size_t sizes[] = {0,     1,     7,         100,       4096,
                          8191,  65536, 65537,     262144,    1000003,
                          262145, 1 << 20, kMessageBytesMax};
  const size_t header_sizes[] = {0, 1, 48, kHeaderBytesMax};
  for (size_t header_size : header_sizes) {
    for (size_t size : sizes) {
      const std::string header = Pattern(header_size, size + 1);
      const std::string payload = Pattern(size, header_size + 2);
      int dones = 0;
      auto done = [&](const absl::Status& status) {
        EXPECT_TRUE(status.ok()) << status;
        ++dones;
      };
      std::string sent_header = header;
      ASSERT_TRUE(
          to_b->Send(ToBytes(sent_header), ToBytes(payload), done).ok());
      sent_header.assign(header_size, '?');  // Send copied it.
      ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
        return dones == 1 && this->b_.heard.count == 1;
      })) << size;
      // Not EXPECT_EQ: nobody wants 4 MiB of difference.
      EXPECT_TRUE(this->b_.heard.messages[0].header == header) << size;
      EXPECT_TRUE(this->b_.heard.messages[0].payload == payload) << size;
      this->b_.heard.messages.clear();
      this->b_.heard.count = 0;
    }
  }
}

// A place may be given or not, at any time; what is made there arrives as made.
TYPED_TEST(ContractTest, MessagesMadeInPlaceArriveWhole) {
  Endpoint* to_b = this->Wired();
  Settle({&this->a_, &this->b_});
  int in_place = 0;
  for (size_t size : {size_t{1}, size_t{300}, size_t{65536}, size_t{262144}}) {
    // One is taken back by a Send, the next is used.
    (void)to_b->Reserve(size);
    ASSERT_TRUE(to_b->Send(ToBytes("sent"), ToBytes("x"), nullptr).ok());
    const MutableBytes place = to_b->Reserve(size);
    const std::string payload = Pattern(size - size / 4, 7);
    if (!place.empty()) {
      ASSERT_EQ(place.size(), size);
      std::memset(place.data(), 0xEE, size);
      std::memcpy(place.data(), payload.data(), payload.size());
      to_b->Commit(ToBytes("made"), payload.size());
      ++in_place;
    }
    const int wanted = place.empty() ? 1 : 2;
    ASSERT_TRUE(Pump({&this->a_, &this->b_},
                     [&] { return this->b_.heard.count == wanted; }));
    for (const auto& message : this->b_.heard.messages) {
      const bool made = message.header == "made";
      EXPECT_TRUE(message.payload == (made ? payload : "x")) << size;
    }
    this->b_.heard.messages.clear();
    this->b_.heard.count = 0;
  }
  EXPECT_EQ(in_place, to_b->HasMailbox() ? 4 : 0);
}

TYPED_TEST(ContractTest, WhatPassesTheLimitsIsRefused) {
  Endpoint* to_b = this->Wired();
  auto never = [](const absl::Status&) { ADD_FAILURE() << "done called"; };
  const std::string header(kHeaderBytesMax + 1, 'h');
  const std::string payload(kMessageBytesMax + 1, 'p');
  EXPECT_EQ(to_b->Send(ToBytes(header), {}, never).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(to_b->Send({}, ToBytes(payload), never).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(to_b->Put(ToBytes("x"), "not a key", 0, never).code(),
            absl::StatusCode::kInvalidArgument);
  Settle({&this->a_, &this->b_});
  EXPECT_EQ(this->b_.heard.count, 0);
}

TYPED_TEST(ContractTest, ManyInFlightArriveOnceEach) {
  Endpoint* to_b = this->ConnectAToB();
  const size_t sizes[] = {0, 8, 500, 5000, 70000, 300000};
  constexpr size_t kCount = 600;
  std::vector<std::string> payloads;
  size_t dones = 0;
  for (size_t i = 0; i < kCount; ++i) {
    payloads.push_back(Pattern(sizes[i % 6], i));
  }
  for (size_t i = 0; i < kCount; ++i) {
    const uint64_t id = i;
    ASSERT_TRUE(to_b->Send(AsBytes(id), ToBytes(payloads[i]),
                           [&](const absl::Status& status) {
                             EXPECT_TRUE(status.ok()) << status;
                             ++dones;
                           }).ok());
  }
  ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
    return dones == kCount && this->b_.heard.count == kCount;
  })) << dones << " " << this->b_.heard.count;
  std::vector<int> seen(kCount);
  for (const auto& message : this->b_.heard.messages) {
    uint64_t id;
    ASSERT_EQ(message.header.size(), sizeof(id));
    memcpy(&id, message.header.data(), sizeof(id));
    ASSERT_LT(id, kCount);
    ++seen[id];
    EXPECT_TRUE(message.payload == payloads[id]) << id;
  }
  EXPECT_EQ(seen, std::vector<int>(kCount, 1));
}

TYPED_TEST(ContractTest, SendsUnderWayAreBounded) {
  Endpoint* to_b = this->Wired();
  this->b_.heard.keep = false;
  const std::string payload(64 << 10, 'p');
  size_t accepted = 0;
  size_t dones = 0;
  auto done = [&](const absl::Status& status) {
    EXPECT_TRUE(status.ok()) << status;
    ++dones;
  };
  absl::Status status;
  // b makes no progress; what the wire buffers by itself is a few MiB.
  while (accepted < 2 * kRequestsInFlightMax) {
    status = to_b->Send({}, ToBytes(payload), done);
    if (!status.ok()) break;
    ++accepted;
    this->a_.transport->Progress();
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_GE(accepted, kRequestsInFlightMax);
  EXPECT_EQ(accepted - dones, kRequestsInFlightMax);
  ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
    return dones == accepted && this->b_.heard.count == accepted;
  })) << dones << " " << accepted;
  EXPECT_TRUE(to_b->Send({}, ToBytes(payload), done).ok());
  EXPECT_TRUE(Pump({&this->a_, &this->b_}, [&] {
    return this->b_.heard.count == accepted + 1 && dones == accepted + 1;
  }));
}

TYPED_TEST(ContractTest, RepliesGoThroughFrom) {
  Endpoint* to_b = this->ConnectAToB();
  const std::string answer = Pattern(100000, 5);
  this->b_.heard.on_message = [&](Endpoint* from, ByteView, ByteView) {
    EXPECT_TRUE(from->Send(ToBytes("re"), ToBytes(answer), nullptr).ok());
  };
  for (int i = 1; i <= 5; ++i) {
    ASSERT_TRUE(to_b->Send(ToBytes("q"), {}, nullptr).ok());
    ASSERT_TRUE(Pump({&this->a_, &this->b_},
                     [&] { return this->a_.heard.count == i; }));
    EXPECT_EQ(this->a_.heard.messages.back().header, "re");
    EXPECT_TRUE(this->a_.heard.messages.back().payload == answer);
    EXPECT_EQ(this->a_.heard.messages.back().from, to_b);
  }
  // One peer, one endpoint.
  for (const auto& message : this->b_.heard.messages) {
    EXPECT_EQ(message.from, this->b_.heard.messages[0].from);
  }
  EXPECT_FALSE(to_b->TransportName().empty());
  EXPECT_FALSE(to_b->PeerName().empty());
}

TYPED_TEST(ContractTest, BothMayConnect) {
  Endpoint* to_b = this->ConnectAToB();
  auto to_a = this->b_.transport->Connect(this->a_.transport->Address());
  ASSERT_TRUE(to_a.ok());
  const std::string payload = Pattern(20000, 3);
  size_t dones = 0;
  auto done = [&](const absl::Status& status) {
    EXPECT_TRUE(status.ok()) << status;
    ++dones;
  };
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(to_b->Send(ToBytes("to b"), ToBytes(payload), done).ok());
    ASSERT_TRUE((*to_a)->Send(ToBytes("to a"), ToBytes(payload), done).ok());
  }
  ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
    return this->a_.heard.count == 50 && this->b_.heard.count == 50 &&
           dones == 100;
  }));
  EXPECT_EQ(this->a_.heard.messages[9].header, "to a");
  EXPECT_TRUE(this->b_.heard.messages[49].payload == payload);
}

TYPED_TEST(ContractTest, ThreeOfThem) {
  Node c(TypeParam::Make());
  std::vector<Node*> all = {&this->a_, &this->b_, &c};
  for (Node* node : all) {
    node->heard.on_message = [](Endpoint* from, ByteView header, ByteView) {
      if (header.size() == 1) {
        EXPECT_TRUE(from->Send(ToBytes("answer"), {}, nullptr).ok());
      }
    };
  }
  for (Node* node : all) {
    for (Node* other : all) {
      if (node == other) continue;
      auto to = node->transport->Connect(other->transport->Address());
      ASSERT_TRUE(to.ok());
      ASSERT_TRUE((*to)->Send(ToBytes("?"), {}, nullptr).ok());
    }
  }
  // Two questions and two answers for each.
  ASSERT_TRUE(Pump(all, [&] {
    return this->a_.heard.count == 4 && this->b_.heard.count == 4 &&
           c.heard.count == 4;
  }));
}

TYPED_TEST(ContractTest, PutLands) {
  Endpoint* to_b = this->Wired();
  std::vector<std::byte> memory(3 << 20, std::byte{7});
  auto region = this->b_.transport->Register(memory);
  ASSERT_TRUE(region.ok()) << region.status();
  EXPECT_EQ((*region)->bytes().data(), memory.data());
  uint64_t offset = 5;
  for (size_t size : {1, 100, 4096, 65536, 1000000}) {
    const std::string source = Pattern(size, size);
    absl::Status ended = absl::UnknownError("not yet");
    ASSERT_TRUE(to_b->Put(ToBytes(source), (*region)->RemoteKey(), offset,
                          [&](const absl::Status& status) { ended = status; })
                    .ok());
    ASSERT_TRUE(Pump({&this->a_, &this->b_}, [&] {
      return ended.code() != absl::StatusCode::kUnknown;
    }));
    EXPECT_TRUE(ended.ok()) << ended;
    EXPECT_EQ(memory[offset - 1], std::byte{7});
    EXPECT_TRUE(memcmp(&memory[offset], source.data(), size) == 0) << size;
    EXPECT_EQ(memory[offset + size], std::byte{7});
    offset += size + 1;
  }
  Settle({&this->a_, &this->b_});
}

TYPED_TEST(ContractTest, PutPastTheEndIsRefused) {
  Endpoint* to_b = this->Wired();
  std::vector<std::byte> memory(4096);
  auto region = this->b_.transport->Register(
      MutableBytes(memory).subspan(0, 1000));
  ASSERT_TRUE(region.ok()) << region.status();
  for (uint64_t offset : {uint64_t{991}, uint64_t{4096}, ~uint64_t{0} - 5}) {
    EXPECT_EQ(to_b->Put(ToBytes("ten bytes!"), (*region)->RemoteKey(), offset,
                        nullptr).code(),
              absl::StatusCode::kOutOfRange);
  }
  Settle({&this->a_, &this->b_});
  EXPECT_EQ(memory, std::vector<std::byte>(4096));
}

}  // namespace
}  // namespace forecache
