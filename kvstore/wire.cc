#include "kvstore/wire.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/limits.h"

namespace forecache::wire {
namespace {

// The CRC of header and body with the CRC's own field taken as zero.
uint32_t HeaderCrc(WireHeader header, ByteView body) {
  header.header_crc = 0;
  return Crc32c(body, Crc32c(AsBytes(header)));
}

absl::Status Refuse(const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat("wire: ", why));
}

}  // namespace

void DescribePayload(ByteView payload, size_t checked, WireHeader* header) {
  FC_CHECK(checked <= payload.size());
  FC_CHECK(payload.size() <= kMessageBytesMax) << payload.size();
  header->payload_bytes = static_cast<uint32_t>(payload.size());
  header->checked_bytes = static_cast<uint32_t>(checked);
  header->payload_crc = Crc32c(payload.first(checked));
}

PackedHeader Pack(WireHeader header, ByteView body) {
  PackedHeader packed;
  FC_CHECK(sizeof(WireHeader) + body.size() <= kHeaderAndBodyMax);
  header.magic = kMagic;
  header.version = kVersion;
  header.body_bytes = static_cast<uint32_t>(body.size());
  header.header_crc = HeaderCrc(header, body);
  std::memcpy(packed.bytes, &header, sizeof(header));
  if (!body.empty()) {
    std::memcpy(packed.bytes + sizeof(header), body.data(), body.size());
  }
  packed.size = sizeof(header) + body.size();
  return packed;
}

absl::StatusOr<Message> Parse(ByteView header, ByteView payload) {
  // Magic and version come first in every version, so they are judged before
  // the length is.
  constexpr size_t kFixedBytes = offsetof(WireHeader, epoch);
  if (header.size() < kFixedBytes) {
    return Refuse(absl::StrCat("header has ", header.size(), " bytes"));
  }
  Message message;
  std::memcpy(&message.header.magic, header.data(), sizeof(uint32_t));
  std::memcpy(&message.header.version,
              header.data() + offsetof(WireHeader, version), sizeof(uint16_t));
  if (message.header.magic != kMagic) return Refuse("magic is not FCW1");
  if (message.header.version != kVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("wire: version ", message.header.version,
                     " is not this side's version ", kVersion));
  }
  if (header.size() < sizeof(WireHeader)) {
    return Refuse(absl::StrCat("header has ", header.size(), " bytes"));
  }
  std::memcpy(&message.header, header.data(), sizeof(WireHeader));
  const WireHeader& fields = message.header;
  message.body = header.subspan(sizeof(WireHeader));
  message.payload = payload;
  if (fields.body_bytes != message.body.size()) {
    return Refuse(absl::StrCat("body_bytes is ", fields.body_bytes,
                               ", body has ", message.body.size()));
  }
  if (HeaderCrc(fields, message.body) != fields.header_crc) {
    return Refuse("header_crc does not match");
  }
  if (fields.payload_bytes != payload.size()) {
    return Refuse(absl::StrCat("payload_bytes is ", fields.payload_bytes,
                               ", payload has ", payload.size()));
  }
  if (fields.checked_bytes > fields.payload_bytes) {
    return Refuse("checked_bytes passes payload_bytes");
  }
  return message;
}

absl::Status CheckPayload(const Message& message) {
  ByteView covered = message.payload.first(message.header.checked_bytes);
  if (Crc32c(covered) == message.header.payload_crc) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("wire: payload of type ", message.header.type,
                   " does not match its checksum"));
}

}  // namespace forecache::wire
