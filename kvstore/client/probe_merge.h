// One row of scores out of several stores' rows.
#ifndef FORECACHE_KVSTORE_CLIENT_PROBE_MERGE_H_
#define FORECACHE_KVSTORE_CLIENT_PROBE_MERGE_H_

#include <cstdint>
#include <vector>

#include "kvstore/client/data_client.h"

namespace forecache {

// Each store scores the blocks that it holds, relative to the log-sum-exp of
// its own keys.  The merged log-sum-exp is that of all of them, so a store's
// scores are shifted by lse_store - lse_merged; a block that no store scored
// has -infinity.  Natural logarithms.
//
// Threads: one thread at a time.
class ProbeMerge {
 public:
  ProbeMerge(const KvGeometry& geometry, int layer, int blocks);

  // Takes the scores of `segments`, ascending.  The rest of `part` is not
  // looked at.  REQUIRES: part.blocks <= blocks.
  void Add(const ProbeResult& part, const std::vector<int>& segments);

  // The merged rows.  Valid until the merge is destroyed; after it, no Add.
  ProbeResult Finish();

  int parts() const { return static_cast<int>(part_lse_.size()); }

 private:
  const int rows_;
  const int layer_;
  const int blocks_;
  std::vector<uint16_t> scores_;                // [rows][blocks]
  std::vector<std::vector<float>> part_lse_;    // [part][rows]
  std::vector<std::vector<int>> part_segments_;
  std::vector<float> lse_;
};

// One tail out of several stores' tails, which are of different blocks.
//
// Threads: one thread at a time.
class TailMerge {
 public:
  // REQUIRES: all are of one shape.
  void Add(const TailView& part);

  // The merged tail, empty without parts.  Valid until the merge is destroyed;
  // after it, no Add.
  TailView Finish();

 private:
  // Keys and values side by side: [rows][2 * head_dim].
  std::vector<float> lse_, sums_;
  std::vector<uint16_t> key_, value_;
};

// Adds `shift` to f16 scores; -infinity stays.  For log-probabilities:
// REQUIRES: scores and shift are at most about 0.
void ShiftScores(float shift, int count, uint16_t* scores);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_PROBE_MERGE_H_
