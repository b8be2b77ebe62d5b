// The data plane's messages, byte for byte.  docs/WIRE.md tells the story.
//
// A message is a transport header (WireHeader, then one fixed body by type) and
// a payload.  All fields are little-endian, at natural alignment, without
// padding.  A receiver refuses what it does not know: another magic, another
// version, another length, a header whose CRC does not match.
//
// Two checksums cover what block parts' own checksums do not: header_crc the
// header and body, payload_crc the first `checked_bytes` of the payload (tables
// of entries, queries, scores; everything but K and V parts).
#ifndef FORECACHE_KVSTORE_WIRE_H_
#define FORECACHE_KVSTORE_WIRE_H_

#include <bit>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"

namespace forecache::wire {

static_assert(std::endian::native == std::endian::little,
              "the wire is little-endian");

inline constexpr uint32_t kMagic = 0x31574346;  // "FCW1"
inline constexpr uint16_t kVersion = 5;

enum class MessageType : uint16_t {
  // HelloBody; payload: HelloProof.  Answered by kHelloAck or kError.  Until
  // then all else is refused.
  kHello = 1,
  kHelloAck = 2,    // no body
  kPutBlocks = 3,   // PutBlocksBody.  Answered by kPutAck or kError.
  kPutAck = 4,      // no body
  kFetch = 5,       // FetchBody.  Answered by one or more kPush, or kError.
  kPush = 6,        // PushBody
  kProbe = 7,       // ProbeBody.  Answered by kProbeReply or kError.
  kProbeReply = 8,  // ProbeReplyBody
  kError = 9,       // ErrorBody; payload: a message for people
  kCancel = 10,     // no body; request_id names the request to forget
  kPing = 11,       // no body.  Answered by kPong.
  kPong = 12,       // no body
  // CorrectBody.  Answered by kPush, for what is pushed, and one kCorrectReply;
  // or kError.
  kCorrect = 13,
  kCorrectReply = 14,  // CorrectReplyBody
  kCredit = 15,        // CreditBody.  Never answered.
};

struct WireHeader {
  uint32_t magic = kMagic;
  uint16_t version = kVersion;
  uint16_t type = 0;
  uint32_t epoch = 0;
  uint32_t header_crc = 0;  // CRC32C of header and body, this field as 0
  uint64_t request_id = 0;  // the worker's choice; answers repeat it
  uint64_t session_id = 0;  // 0 where there is none
  uint64_t session_key[2] = {0, 0};
  uint32_t payload_bytes = 0;
  uint32_t body_bytes = 0;
  uint32_t payload_crc = 0;    // CRC32C of payload [0, checked_bytes)
  uint32_t checked_bytes = 0;  // at most payload_bytes
};
static_assert(sizeof(WireHeader) == 64);

// What the sender takes.
struct HelloBody {
  // Of pushes' payloads, at most so many bytes may be under way: sent, and not
  // told to be taken by a kCredit.
  uint64_t push_credit = 0;
};
static_assert(sizeof(HelloBody) == 8);

// Shows that the sender attached on the control plane a moment ago.
struct HelloProof {
  uint64_t grant = 0;  // from Attach
  uint8_t mac[32] = {};
};
static_assert(sizeof(HelloProof) == 40);

// Whole blocks of one layer, all KV heads.  All or nothing: one part that does
// not match its checksum refuses the message.  Payload:
//   PartChecksums [kv_heads][block_count]     (covered by payload_crc)
//   K parts       [kv_heads][block_count][part]
//   V parts       [kv_heads][block_count][part]
struct PutBlocksBody {
  uint32_t layer = 0;
  uint32_t first_block = 0;
  uint32_t block_count = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(PutBlocksBody) == 16);

struct PartChecksums {
  uint32_t k = 0;  // CRC32C of the K part
  uint32_t v = 0;
};
static_assert(sizeof(PartChecksums) == 8);

// Blocks of any layers.  Payload: FetchEntry [count], sorted or not; sorted by
// layer, KV head and block they are gathered faster.
struct FetchBody {
  uint32_t count = 0;
  uint32_t reserved = 0;
};
static_assert(sizeof(FetchBody) == 8);

// One wanted block, and where the worker will keep it.  Slot and generation
// come back untouched: a slot that was given away since then has another
// generation, so a late block cannot land in it.
struct FetchEntry {
  uint32_t block = 0;  // number in the context
  uint16_t kv_head = 0;
  uint16_t layer = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
};
static_assert(sizeof(FetchEntry) == 16);

// Payload: PushEntry [count] (covered by payload_crc), then for each entry
// whose status is kOk its K part and its V part, in the entries' order.
// Pushes of one fetch may overtake each other: a fetch is over when all its
// entries were answered, not when `last` is seen.
struct PushBody {
  uint32_t count = 0;
  uint32_t last = 0;  // 1 in the last push of the request
  // Payload bytes of all pushes on this connection so far, this one included.
  uint64_t sent = 0;
};
static_assert(sizeof(PushBody) == 16);

// Pushes were taken, or are given up, up to a PushBody::sent.
struct CreditBody {
  uint64_t taken = 0;
};
static_assert(sizeof(CreditBody) == 8);

enum class BlockStatus : uint16_t {
  kOk = 0,
  kDataLoss = 1,  // the stored bytes do not match their checksum: not sent
  kNotFound = 2,  // never put, or dropped
};

struct PushEntry {
  uint32_t block = 0;
  uint16_t kv_head = 0;
  uint16_t status = 0;  // BlockStatus
  uint32_t slot = 0;
  uint32_t generation = 0;
  PartChecksums checksums;
  uint32_t layer = 0;
};
static_assert(sizeof(PushEntry) == 28);

// Scores blocks [0, blocks) of one layer.  Payload: f32 queries
// [kv_heads][group][head_dim], after RoPE, unscaled.
struct ProbeBody {
  uint32_t layer = 0;
  uint32_t blocks = 0;
  float scale = 0;  // of the logits: 1 / sqrt(head_dim)
  uint32_t reserved = 0;
};
static_assert(sizeof(ProbeBody) == 16);

// Payload: f32 lse [kv_heads][group]: the log-sum-exp of the scaled logits of
// all keys scanned; then f16 [kv_heads][group][blocks]: each block's largest
// scaled logit minus that lse, so a log-probability (natural logarithm).
struct ProbeReplyBody {
  uint32_t layer = 0;
  uint32_t blocks = 0;
};
static_assert(sizeof(ProbeReplyBody) == 8);

// A probe whose best missing blocks are pushed in the same trip: for each KV
// head at most as many as it has slots, of blocks [first, end).  Payload:
//   u64 resident   [kv_heads][ResidentWords(blocks)]  bit b: block b is there
//   f32 queries    [kv_heads][group][head_dim]        as in ProbeBody
//   f32 local_lse  [kv_heads][group]  of keys that the worker scored itself
//   u32 slot_count [kv_heads]
//   OfferedSlot    [sum of slot_count], head by head
struct CorrectBody {
  uint32_t layer = 0;
  uint32_t blocks = 0;
  float scale = 0;
  uint32_t first = 0;
  uint32_t end = 0;      // at most blocks
  uint32_t slots = 0;    // sum of slot_count
  float threshold = 0;   // the least probability worth a push
  uint32_t flags = 0;    // CorrectFlags
};
static_assert(sizeof(CorrectBody) == 32);

enum CorrectFlags : uint32_t {
  kCorrectWantsScores = 1,  // the reply has the rows of a PROBE_REPLY
  kCorrectWantsTail = 2,    // and attention over what is not pushed either
};
inline constexpr uint32_t kCorrectFlagsKnown =
    kCorrectWantsScores | kCorrectWantsTail;

// A place for one block.  A head's slots are used in their order.
struct OfferedSlot {
  uint32_t slot = 0;
  uint32_t generation = 0;
};
static_assert(sizeof(OfferedSlot) == 8);

// Words of 64 bits that the residency of `blocks` blocks takes.
inline constexpr size_t ResidentWords(size_t blocks) {
  return (blocks + 63) / 64;
}

// Payload: CorrectedHead [kv_heads], then f32 lse [kv_heads][group].  Then, if
// asked for, the tail: f32 lse [kv_heads][group], f16 key and f16 value
// [kv_heads][group][head_dim] each, of attention with the request's queries
// over blocks [0, blocks) that are neither resident nor pushed: the log-sum-exp
// of their scaled logits (-infinity for none), their mean key and mean value by
// attention.  Then, if asked for, the f16 rows of a PROBE_REPLY.
struct CorrectReplyBody {
  uint32_t layer = 0;
  uint32_t blocks = 0;
  uint32_t flags = 0;  // of the request
  uint32_t reserved = 0;
};
static_assert(sizeof(CorrectReplyBody) == 16);

// What became of one KV head.  Probabilities are means over its query heads of
// exp(block's largest logit - lse), lse being of all keys, local ones too.
struct CorrectedHead {
  uint32_t used = 0;       // slots, from the first: each gets its PushEntry
  float best_left = 0;     // best missing block of [first, end) not pushed
  float missing_mass = 0;  // sum over missing blocks of [0, blocks) not pushed
  uint32_t reserved = 0;
};
static_assert(sizeof(CorrectedHead) == 16);

struct ErrorBody {
  uint32_t code = 0;  // absl::StatusCode
  uint32_t reserved = 0;
};
static_assert(sizeof(ErrorBody) == 8);

// The largest header and body together.
inline constexpr size_t kHeaderAndBodyMax = sizeof(WireHeader) + 32;

// A header and body ready to send.
struct PackedHeader {
  std::byte bytes[kHeaderAndBodyMax];
  size_t size = 0;
  ByteView view() const { return {bytes, size}; }
};

// Says in `header` that `payload` follows and that its first `checked` bytes
// are covered by payload_crc.  REQUIRES: checked <= payload.size().
void DescribePayload(ByteView payload, size_t checked, WireHeader* header);

// Packs `header` (whose magic, version, body_bytes and header_crc it fills in)
// and the bytes of a body.
PackedHeader Pack(WireHeader header, ByteView body);

// A parsed message.  The views end with the message.
struct Message {
  WireHeader header;
  ByteView body;
  ByteView payload;
  MessageType type() const { return static_cast<MessageType>(header.type); }
};

// kInvalidArgument: not ours or damaged (says which field).
// kFailedPrecondition: another version.
absl::StatusOr<Message> Parse(ByteView header, ByteView payload);

// kDataLoss: the covered part of the payload does not match payload_crc.  Apart
// from Parse, so that a receiver can still answer the request.
absl::Status CheckPayload(const Message& message);

// The body of `message` as a T.  kInvalidArgument when its size is not T's.
template <typename T>
absl::StatusOr<T> BodyOf(const Message& message);

}  // namespace forecache::wire

#include "kvstore/wire-inl.h"

#endif  // FORECACHE_KVSTORE_WIRE_H_
