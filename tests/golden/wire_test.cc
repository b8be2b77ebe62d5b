// The data plane's messages, byte for byte: version 5.  A change here is a new
// version (docs/WIRE.md).
#include "kvstore/wire.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "kvstore/hello.h"

namespace forecache::wire {
namespace {

std::string Hex(ByteView bytes) {
  return absl::BytesToHexString(absl::string_view(
      reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

// Every field another value, so that two that change places show.
WireHeader Header(MessageType type) {
  WireHeader header;
  header.type = static_cast<uint16_t>(type);
  header.epoch = 0x01020304;
  header.request_id = 0x1112131415161718;
  header.session_id = 0x2122232425262728;
  header.session_key[0] = 0x3132333435363738;
  header.session_key[1] = 0x4142434445464748;
  return header;
}

std::string HexOf(MessageType type, ByteView body, ByteView payload,
                  size_t checked) {
  WireHeader header = Header(type);
  DescribePayload(payload, checked, &header);
  PackedHeader packed = Pack(header, body);
  EXPECT_TRUE(Parse(packed.view(), payload).ok());
  return Hex(packed.view());
}

TEST(WireGoldenTest, HeaderAlone) {
  EXPECT_EQ(HexOf(MessageType::kHello, {}, {}, 0),
            "464357310500010004030201186ff65618171615141312112827262524232221"
            "3837363534333231484746454443424100000000000000000000000000000000");
}

TEST(WireGoldenTest, PutBlocks) {
  PutBlocksBody body{0x51, 0x52, 0x53, 0};
  std::vector<std::byte> payload(24, std::byte{0xAB});
  EXPECT_EQ(HexOf(MessageType::kPutBlocks, AsBytes(body), payload, 8),
            "4643573105000300040302015061929718171615141312112827262524232221"
            "383736353433323148474645444342411800000010000000bb47d59808000000"
            "51000000520000005300000000000000");
}

TEST(WireGoldenTest, Bodies) {
  EXPECT_EQ(Hex(AsBytes(HelloProof{1, {2, 3}})),
            "0100000000000000"
            "0203000000000000000000000000000000000000000000000000000000000000");
  EXPECT_EQ(Hex(AsBytes(FetchBody{1, 0})), "0100000000000000");
  EXPECT_EQ(Hex(AsBytes(FetchEntry{1, 2, 5, 3, 4})),
            "01000000020005000300000004000000");
  EXPECT_EQ(Hex(AsBytes(HelloBody{1})), "0100000000000000");
  EXPECT_EQ(Hex(AsBytes(CreditBody{1})), "0100000000000000");
  EXPECT_EQ(Hex(AsBytes(PushBody{2, 1, 3})),
            "02000000010000000300000000000000");
  EXPECT_EQ(Hex(AsBytes(PushEntry{1, 2, 1, 3, 4, {5, 6}, 7})),
            "01000000020001000300000004000000050000000600000007000000");
  EXPECT_EQ(Hex(AsBytes(ProbeBody{1, 2, 0.125f, 0})),
            "01000000020000000000003e00000000");
  EXPECT_EQ(Hex(AsBytes(ProbeReplyBody{1, 2})), "0100000002000000");
  EXPECT_EQ(Hex(AsBytes(CorrectBody{1, 2, 0.125f, 3, 4, 5, 0.25f, 1})),
            "01000000020000000000003e0300000004000000050000000000803e01000000");
  EXPECT_EQ(Hex(AsBytes(OfferedSlot{1, 2})), "0100000002000000");
  EXPECT_EQ(Hex(AsBytes(CorrectReplyBody{1, 2, 1, 0})),
            "01000000020000000100000000000000");
  EXPECT_EQ(Hex(AsBytes(CorrectedHead{1, 0.125f, 0.25f, 0})),
            "010000000000003e0000803e00000000");
  EXPECT_EQ(Hex(AsBytes(ErrorBody{15, 0})), "0f00000000000000");
}

// What the MAC of a HELLO is of, and how: HMAC-SHA256.
TEST(WireGoldenTest, HelloProof) {
  HelloGrant grant{0x5152535455565758, {}};
  for (size_t i = 0; i < grant.key.size(); ++i) {
    grant.key[i] = static_cast<uint8_t>(i);
  }
  EXPECT_EQ(Hex(AsBytes(ProveHello(grant, Header(MessageType::kHello)))),
            "5857565554535251"
            "20cb7b16f8cd10bce826f05a0f0851fd95ebe59a3aad6c391d2c4b34c0230683");
}

TEST(WireTest, ParseGivesBackWhatWasPacked) {
  WireHeader header = Header(MessageType::kFetch);
  FetchBody body{7, 0};
  PackedHeader packed = Pack(header, AsBytes(body));
  auto message = Parse(packed.view(), {});
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message->type(), MessageType::kFetch);
  EXPECT_EQ(message->header.request_id, header.request_id);
  EXPECT_EQ(message->header.session_key[1], header.session_key[1]);
  EXPECT_EQ(BodyOf<FetchBody>(*message)->count, 7);
  EXPECT_FALSE(BodyOf<ProbeBody>(*message).ok());
}

TEST(WireTest, EveryFlippedBitIsRefused) {
  ProbeBody body{1, 2, 3.0f, 0};
  WireHeader header = Header(MessageType::kProbe);
  std::vector<std::byte> payload(40, std::byte{1});
  DescribePayload(payload, 40, &header);
  const PackedHeader good = Pack(header, AsBytes(body));
  for (size_t bit = 0; bit < good.size * 8; ++bit) {
    PackedHeader bad = good;
    bad.bytes[bit / 8] ^= std::byte{1} << (bit % 8);
    auto message = Parse(bad.view(), payload);
    ASSERT_FALSE(message.ok()) << bit;
    bool version = bit / 8 == 4 || bit / 8 == 5;
    EXPECT_EQ(absl::IsFailedPrecondition(message.status()), version) << bit;
  }
  for (size_t bit = 0; bit < payload.size() * 8; ++bit) {
    std::vector<std::byte> bad = payload;
    bad[bit / 8] ^= std::byte{1} << (bit % 8);
    EXPECT_TRUE(absl::IsDataLoss(CheckPayload(*Parse(good.view(), bad))));
  }
}

TEST(WireTest, EveryCutIsRefused) {
  PackedHeader good = Pack(Header(MessageType::kPing), {});
  for (size_t size = 0; size < good.size; ++size) {
    EXPECT_TRUE(absl::IsInvalidArgument(
        Parse(good.view().first(size), {}).status()));
  }
  std::byte more{};
  EXPECT_FALSE(Parse(good.view(), {&more, 1}).ok());
}

}  // namespace
}  // namespace forecache::wire
