// From attention rows to chosen blocks: one score a KV head, then the best.
#ifndef FORECACHE_PREDICTOR_SELECTION_H_
#define FORECACHE_PREDICTOR_SELECTION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "predictor/predictor.h"

namespace forecache {

// Where (layer, kv_head) stands among all.  REQUIRES: both are in the shape.
size_t HeadIndex(const Predictor::Shape& shape, int layer, int kv_head);

// Rows are allocated for this many blocks, at least `blocks`: 1,024 tokens
// between two allocations.
size_t GrownBlocks(size_t blocks);

// What every row must keep, after one of `known_blocks`: it did not shrink,
// its sizes agree, and what it has seen ascends.
void CheckRow(const AttentionRow& row, int group, size_t known_blocks);

// The KV head's scores of `count` blocks from block `first` on: the mean over
// its `group` query heads.
// REQUIRES: the blocks are in the row.
void MeanOverGroup(const AttentionRow& row, int group, int first, int count,
                   float* means);

// Picks the best blocks of a row of codes (see history.h).
//
// Threads: one thread at a time.
class TopBlocks {
 public:
  // Fills `choices` with the min(count, size of range) best blocks of `range`,
  // best first; of equal ones the later goes first.  Blocks that the row does
  // not have yet score 0.  No allocation once `count` was as large before.
  void Select(std::span<const uint16_t> codes, const ChoiceRange& range,
              int count, std::vector<BlockChoice>* choices);

 private:
  void ScanBackwards(std::span<const uint16_t> codes, int first, int end,
                     int count);
  void Keep(int count);

  // code << 16 | block, so that one comparison orders by score, then block.
  std::vector<uint32_t> kept_;
  uint32_t threshold_ = 0;  // what has no larger code is not among the best
};

// REQUIRES: count >= 0 and 0 <= range.first, range.end <= kContextBlocksMax.
void CheckChoice(const ChoiceRange& range, int count);

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_SELECTION_H_
