// A correction on the store's side: probe one KV head, choose what it lacks.
#ifndef FORECACHE_KVSTORE_CORRECTION_H_
#define FORECACHE_KVSTORE_CORRECTION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/bytes.h"
#include "kvstore/probe.h"
#include "kvstore/session.h"
#include "kvstore/tail.h"
#include "kvstore/wire.h"

namespace forecache {

// A CORRECT message, taken apart: see wire::CorrectBody.
//
// Threads: a value.
struct CorrectionRequest {
  ProbeRequest probe;
  int first = 0;  // blocks [first, end) may be pushed
  int end = 0;
  float threshold = 0;
  bool wants_scores = false;
  bool wants_tail = false;
  std::span<const uint64_t> resident;    // [kv_heads][ResidentWords(blocks)]
  std::span<const float> local_lse;      // [kv_heads][group]
  std::span<const uint32_t> slot_count;  // [kv_heads]
  std::span<const wire::OfferedSlot> slots;
};

// Bytes of a CORRECT's payload.
size_t CorrectPayloadBytes(const KvGeometry& geometry, size_t blocks,
                           size_t slots);
// Bytes of the reply's payload.
size_t CorrectReplyBytes(const KvGeometry& geometry, int blocks,
                         bool wants_scores, bool wants_tail);

// Takes a message apart; the spans view `payload`.  kInvalidArgument names the
// field that is outside its limit.
// REQUIRES: `payload` is aligned to 8.
absl::Status ParseCorrection(const KvGeometry& geometry,
                             const wire::CorrectBody& body, ByteView payload,
                             CorrectionRequest* request);

// A Corrector works off corrections head by head, so that what one head lacks
// is on its way while the next one is scanned.
//
// Threads: one thread.
class Corrector {
 public:
  explicit Corrector(ProbeSource source) : prober_(source) {}

  // Scans one KV head and writes its share of the reply.  `picks` gets what is
  // to be pushed, best first, with slots.  Returns the bytes of keys covered.
  // REQUIRES: ParseCorrection was OK; `reply` has CorrectReplyBytes.
  size_t CorrectHead(const SessionSnapshot& session,
                     const CorrectionRequest& request, int kv_head,
                     MutableBytes reply,
                     std::vector<wire::FetchEntry>* picks);

 private:
  // Writes a head's share of the tail to `out`, where the tail begins.
  void WriteTail(const SessionSnapshot& session,
                 const CorrectionRequest& request, int kv_head,
                 std::span<const uint32_t> pushed, std::byte* out);

  Prober prober_;
  TailScanner tail_;
  std::vector<uint64_t> attended_;  // by bit: resident, or pushed
  std::vector<float> merged_;       // of one KV head, by block
  std::vector<float> lse_;          // [group], local keys included
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CORRECTION_H_
