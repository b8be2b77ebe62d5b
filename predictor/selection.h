// From attention rows to chosen blocks: one score a KV head, then the best.
#ifndef FORECACHE_PREDICTOR_SELECTION_H_
#define FORECACHE_PREDICTOR_SELECTION_H_

#include <cstdint>
#include <span>
#include <vector>

#include "predictor/predictor.h"

namespace forecache {

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
