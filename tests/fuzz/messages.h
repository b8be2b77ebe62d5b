// Inputs that are a row of data-plane messages: u16 bytes of header and body,
// u16 reserved, u32 bytes of payload, then header, body and payload of each.
#ifndef FORECACHE_TESTS_FUZZ_MESSAGES_H_
#define FORECACHE_TESTS_FUZZ_MESSAGES_H_

#include <vector>

#include "kvstore/wire.h"
#include "tests/fuzz/fuzz.h"

namespace forecache::fuzz {

// Threads: a value.
struct RawMessage {
  Bytes header;  // and body
  Bytes payload;
};

std::vector<RawMessage> Split(const uint8_t* data, size_t size);
Bytes Join(const std::vector<RawMessage>& messages);

// A message as an honest peer would send it.
RawMessage Whole(wire::WireHeader header, ByteView body, ByteView payload);

// Changes a header, and makes its CRC match again where it did before.
template <typename Change>
void ChangeHeader(RawMessage* message, const Change& change);

// Makes magic, version, lengths and both checksums agree.
void RepairMessage(RawMessage* message);
void RepairMessages(Bytes* input);

}  // namespace forecache::fuzz

#include "tests/fuzz/messages-inl.h"

#endif  // FORECACHE_TESTS_FUZZ_MESSAGES_H_
