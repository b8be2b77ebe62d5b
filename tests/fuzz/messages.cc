#include "tests/fuzz/messages.h"

#include <algorithm>
#include <cstring>

#include "common/limits.h"
#include "transport/transport.h"

namespace forecache::fuzz {
namespace {

struct Head {
  uint16_t header_bytes;
  uint16_t reserved;
  uint32_t payload_bytes;
};
static_assert(sizeof(Head) == 8);

constexpr size_t kMessagesMax = 32;

}  // namespace

std::vector<RawMessage> Split(const uint8_t* data, size_t size) {
  std::vector<RawMessage> messages;
  while (size >= sizeof(Head) && messages.size() < kMessagesMax) {
    Head head;
    std::memcpy(&head, data, sizeof(head));
    data += sizeof(head);
    size -= sizeof(head);
    // What a transport delivers is within its limits.
    const size_t header = std::min<size_t>(
        {head.header_bytes, size, kHeaderBytesMax});
    const size_t payload = std::min<size_t>(
        {head.payload_bytes, size - header, kMessageBytesMax});
    messages.push_back({Bytes(data, data + header),
                        Bytes(data + header, data + header + payload)});
    data += header + payload;
    size -= header + payload;
  }
  return messages;
}

Bytes Join(const std::vector<RawMessage>& messages) {
  Bytes joined;
  for (const RawMessage& message : messages) {
    const Head head = {static_cast<uint16_t>(message.header.size()), 0,
                       static_cast<uint32_t>(message.payload.size())};
    const Bytes bytes = ToBytes(AsBytes(head));
    joined.insert(joined.end(), bytes.begin(), bytes.end());
    joined.insert(joined.end(), message.header.begin(), message.header.end());
    joined.insert(joined.end(), message.payload.begin(),
                  message.payload.end());
  }
  return joined;
}

RawMessage Whole(wire::WireHeader header, ByteView body, ByteView payload) {
  wire::DescribePayload(payload, payload.size(), &header);
  return {ToBytes(wire::Pack(header, body).view()), ToBytes(payload)};
}

void RepairMessage(RawMessage* message) {
  wire::WireHeader header;
  const size_t body = message->header.size() - sizeof(header);
  if (message->header.size() < sizeof(header) ||
      sizeof(header) + body > wire::kHeaderAndBodyMax) {
    return;
  }
  std::memcpy(&header, message->header.data(), sizeof(header));
  const size_t checked =
      std::min<size_t>(header.checked_bytes, message->payload.size());
  wire::DescribePayload(View(message->payload), checked, &header);
  message->header = ToBytes(
      wire::Pack(header, View(message->header).subspan(sizeof(header)))
          .view());
}

void RepairMessages(Bytes* input) {
  std::vector<RawMessage> messages = Split(input->data(), input->size());
  for (RawMessage& message : messages) RepairMessage(&message);
  *input = Join(messages);
}

}  // namespace forecache::fuzz
