// Scoring the blocks of a context against a query, near the data.
#ifndef FORECACHE_KVSTORE_PROBE_H_
#define FORECACHE_KVSTORE_PROBE_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "kernels/code_scan.h"
#include "kvstore/session.h"

namespace forecache {

// What sealed segments are scored by; open ones always by their keys.
enum class ProbeSource { kCodes, kExact };
inline constexpr CodeKind kCodeKindDefault = CodeKind::k4Bit;

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

// The scores of one KV head, as a scan left them.
//
// Threads: as the Prober's that it belongs to.
struct HeadScores {
  // [group][stride], -infinity where no block is held, and up to the stride.
  std::vector<float> block_max;
  std::vector<float> lse;  // [group]
  size_t stride = 0;
  // If asked for, of what was scored by codes: each token's logit, [group]
  // [stride * 16].
  std::vector<float> logits;
  size_t logit_stride() const { return stride * kBlockTokens; }
  // Segments whose tokens have logits.
  std::vector<int> segments_with_logits;
};

// A Prober owns the scratch memory of scans.
//
// Threads: one thread.
class Prober {
 public:
  explicit Prober(ProbeSource source) : source_(source) {}

  // Scans one KV head and writes its share of a reply's payload.  Returns the
  // bytes of 16-bit keys that the scan covered.
  // REQUIRES: ValidateProbe is OK; `reply` has ProbeReplyBytes.
  size_t ProbeHead(const SessionSnapshot& session, const ProbeRequest& request,
                   int kv_head, MutableBytes reply);

  // Scores one KV head: see scores().  Returns the bytes of keys covered.
  // REQUIRES: ValidateProbe is OK.
  size_t ScanHead(const SessionSnapshot& session, const ProbeRequest& request,
                  int kv_head, bool wants_logits = false);
  // Of the last ScanHead.
  const HeadScores& scores() const { return scores_; }

 private:
  // Scans the code planes of planes_ at once: their queries are made ready
  // once, and the kernel asks for the next plane while it works on one.
  void ScanCodes(const KvGeometry& geometry, const ProbeRequest& request,
                 int kv_head);
  // Scores blocks [0, blocks) of segment `number` by their keys.
  size_t ScanKeys(const SegmentView& view, const ProbeRequest& request,
                  int kv_head, int number, int blocks);
  // Takes the log-sum-exps of a scan in.
  void MergeScan();

  const ProbeSource source_;
  HeadScores scores_;
  // Of sealed segments that follow each other, all of one kind; the first is
  // segment first_.
  std::vector<const std::byte*> planes_;
  CodeKind kind_ = kCodeKindDefault;
  int first_ = 0;
  std::vector<float> scan_lse_;  // [group] of one scan
};

// The f16 rows of a head in a reply: wire::ProbeReplyBody.
void WriteHeadScores(const HeadScores& scores, int blocks, std::byte* out);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_PROBE_H_
