// Included by messages.h only.
#ifndef FORECACHE_TESTS_FUZZ_MESSAGES_INL_H_
#define FORECACHE_TESTS_FUZZ_MESSAGES_INL_H_

#include <cstring>

#include "tests/fuzz/messages.h"

namespace forecache::fuzz {

template <typename Change>
void ChangeHeader(RawMessage* message, const Change& change) {
  wire::WireHeader header;
  if (message->header.size() < sizeof(header)) return;
  const bool was_whole =
      wire::Parse(View(message->header), View(message->payload)).ok();
  std::memcpy(&header, message->header.data(), sizeof(header));
  change(&header);
  const ByteView body = View(message->header).subspan(sizeof(header));
  if (was_whole) {
    message->header = ToBytes(wire::Pack(header, body).view());
  } else {
    std::memcpy(message->header.data(), &header, sizeof(header));
  }
}

}  // namespace forecache::fuzz

#endif  // FORECACHE_TESTS_FUZZ_MESSAGES_INL_H_
