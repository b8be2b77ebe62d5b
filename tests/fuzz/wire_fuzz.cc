// kvstore/wire.h: what parses is inside the message, and packs to the same.
#include <algorithm>

#include "common/check.h"
#include "tests/fuzz/messages.h"

namespace forecache::fuzz {
namespace {

bool Inside(ByteView part, const Bytes& whole) {
  if (part.empty()) return true;
  const auto* from = reinterpret_cast<const uint8_t*>(part.data());
  return from >= whole.data() &&
         from + part.size() <= whole.data() + whole.size();
}

template <typename T>
void CheckBody(const wire::Message& message) {
  const auto body = wire::BodyOf<T>(message);
  FC_CHECK(body.ok() == (message.body.size() == sizeof(T)));
  FC_CHECK(!body.ok() || std::ranges::equal(AsBytes(*body), message.body));
}

void Check(const RawMessage& raw) {
  const auto message = wire::Parse(View(raw.header), View(raw.payload));
  if (!message.ok()) return;
  FC_CHECK(Inside(message->body, raw.header));
  FC_CHECK(Inside(message->payload, raw.payload));
  FC_CHECK(message->header.checked_bytes <= raw.payload.size());
  CheckBody<wire::PutBlocksBody>(*message);
  CheckBody<wire::FetchBody>(*message);
  CheckBody<wire::PushBody>(*message);
  CheckBody<wire::ProbeBody>(*message);
  CheckBody<wire::ProbeReplyBody>(*message);
  CheckBody<wire::CorrectBody>(*message);
  CheckBody<wire::CorrectReplyBody>(*message);
  CheckBody<wire::ErrorBody>(*message);
  CheckBody<wire::HelloBody>(*message);
  CheckBody<wire::CreditBody>(*message);
  if (raw.header.size() <= wire::kHeaderAndBodyMax) {
    const wire::PackedHeader again =
        wire::Pack(message->header, message->body);
    FC_CHECK(std::ranges::equal(again.view(), View(raw.header)));
  }
  if (!wire::CheckPayload(*message).ok() ||
      message->header.checked_bytes == 0) {
    return;
  }
  // One bit of what is covered must show.
  Bytes damaged = raw.payload;
  damaged[message->header.checked_bytes / 2] ^= 1;
  wire::Message other = *message;
  other.payload = View(damaged);
  FC_CHECK(!wire::CheckPayload(other).ok());
}

}  // namespace

std::vector<Bytes> Seeds() {
  std::vector<Bytes> seeds;
  const Bytes payload(100, 7);
  const std::vector<size_t> bodies = {8, 0, 16, 0, 8,  16, 16, 8,
                                      8, 0, 0,  0, 32, 16, 8};
  for (size_t i = 0; i < bodies.size(); ++i) {
    wire::WireHeader header;
    header.type = static_cast<uint16_t>(i + 1);
    header.request_id = 5;
    const Bytes body(bodies[i], 1);
    seeds.push_back(Join({Whole(header, View(body), View(payload))}));
  }
  return seeds;
}

void Repair(Bytes* input, Rng*) { RepairMessages(input); }

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  for (const auto& message : forecache::fuzz::Split(data, size)) {
    forecache::fuzz::Check(message);
  }
  return 0;
}
