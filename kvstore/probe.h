// Scoring the blocks of a context against a query, near the data.
#ifndef FORECACHE_KVSTORE_PROBE_H_
#define FORECACHE_KVSTORE_PROBE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "kvstore/session.h"

namespace forecache {

// What sealed segments are scored by; open ones always by their keys.
enum class ProbeSource { kCodes, kExact };

struct ProbeRequest {
  int layer = 0;
  int blocks = 0;                // scores [0, blocks)
  float scale = 0;
  std::span<const float> q;      // [kv_heads][group][head_dim]
};

// Bytes of a probe's reply: see wire::ProbeReplyBody.
size_t ProbeReplyBytes(const KvGeometry& geometry, int blocks);

// kInvalidArgument names the field that is outside its limit, or says that the
// reply would pass kMessageBytesMax.
absl::Status ValidateProbe(const KvGeometry& geometry,
                           const ProbeRequest& request);

// A Prober owns the scratch memory of scans.
//
// Threads: one thread.
class Prober {
 public:
  explicit Prober(ProbeSource source) : source_(source) {}

  // Writes a reply's payload and returns the bytes of 16-bit keys that the
  // scan covered.
  // REQUIRES: ValidateProbe is OK; `reply` has ProbeReplyBytes.
  size_t Probe(const SessionSnapshot& session, const ProbeRequest& request,
               MutableBytes reply);

 private:
  size_t ScoreSegment(const SegmentView& view, const ProbeRequest& request,
                      int kv_head, int first_block, int blocks);
  void MergeLse(int kv_head, int group);

  const ProbeSource source_;
  std::vector<float> block_max_;    // [group][blocks] of one KV head
  std::vector<float> lse_;          // [kv_heads][group]
  std::vector<float> segment_lse_;  // [group] of one scan
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_PROBE_H_
