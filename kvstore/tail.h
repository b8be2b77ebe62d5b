// The tail of a correction: attention near the data over what the worker will
// not have.
#ifndef FORECACHE_KVSTORE_TAIL_H_
#define FORECACHE_KVSTORE_TAIL_H_

#include <cstdint>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "kvstore/probe.h"
#include "kvstore/session.h"

namespace forecache {

// For each query head of one KV head, over the blocks that are left out:
//
//   lse    the log-sum-exp of their scaled logits
//   key    their mean key, weighted by attention
//   value  their mean value, so: attention's output over them
//
// all for the probe's query q^, which is an estimate.  The worker, who has the
// true query q by then, takes lse + scale (q - q^) . key for the log-sum-exp,
// which is right to first order, and merges.
//
// Sealed segments are attended by their value planes, with the logits of the
// scan; others by their own keys and values, which are checked against their
// checksums: a damaged block weighs nothing here.  What is neither in value
// planes nor in memory weighs nothing either.
//
// Threads: one thread.
class TailScanner {
 public:
  // `attended` has bit b where block b is not left out.
  // REQUIRES: `scores` are of a ScanHead of the same request with wants_logits.
  void Attend(const SessionSnapshot& session, const ProbeRequest& request,
              int kv_head, const HeadScores& scores,
              std::span<const uint64_t> attended);

  // Of the last Attend.  -infinity, and zeros, where nothing is left out.
  std::span<const float> lse() const { return lse_; }        // [group]
  std::span<const float> keys() const { return keys_; }      // [group][d]
  std::span<const float> values() const { return values_; }  // [group][d]

 private:
  // Blocks of segment `number` that are left out.
  uint32_t LeftOut(std::span<const uint64_t> attended, int number,
                   int blocks) const;
  void AttendBlocks(const SegmentView& view, const ProbeRequest& request,
                    int kv_head, const HeadScores& scores, uint32_t blocks);

  std::vector<float> mass_;  // [group], of exp(logit - the scan's lse)
  std::vector<float> lse_, keys_, values_;
  // Of blocks that are attended by themselves.
  std::vector<uint64_t> blocks_;  // 64-bit words: see AttendBlocks
  std::vector<BlockRead> reads_;
  std::vector<float> part_, part_lse_;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_TAIL_H_
