// What the policies remember: for each (layer, KV head), one row with a score
// for every block of the context, in 16 bits a block.
//
// A score is a KV head's attention probability: the mean over its query heads
// of each one's largest probability in the block, or their sum (RowKind).  It
// is kept as the f16 of score * 2^15: all 11 bits of precision from 1 down to
// 2^-29, and zero below.
// No sign, no NaN, no subnormals: codes compare as integers as their scores do.
#ifndef FORECACHE_PREDICTOR_HISTORY_H_
#define FORECACHE_PREDICTOR_HISTORY_H_

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "predictor/predictor.h"

namespace forecache {

// Rounds to nearest, ties to even.  Below 0 and NaN become 0, above 1 becomes
// 1: a bad row may cost a good guess, never a wrong order of the other blocks.
inline uint16_t EncodeScore(float score) {
  constexpr uint32_t kRebias = (127 - 30) << 10;  // the f16 of 2^15 is 30 << 10
  score = score > 0 ? score : 0;
  score = score < 1 ? score : 1;
  uint32_t bits = std::bit_cast<uint32_t>(score);
  bits = (bits + 0xFFF + ((bits >> 13) & 1)) >> 13;
  return static_cast<uint16_t>(bits < kRebias + 0x400 ? 0 : bits - kRebias);
}

inline float DecodeScore(uint16_t code) {
  constexpr uint32_t kRebias = (127 - 30) << 23;
  const uint32_t bits = (uint32_t{code} << 13) + kRebias;
  return std::bit_cast<float>(code == 0 ? 0 : bits);
}

// The rows of one session.
//
// Bounded by kContextBlocksMax blocks a row; memory grows in steps as the
// context does, and is not asked for between the steps.
//
// Threads: one thread at a time.
class RowHistory {
 public:
  explicit RowHistory(const Predictor::Shape& shape);

  // Takes the row over as it is.  Entries that it has not seen stay.
  void Replace(int layer, int kv_head, const AttentionRow& row);

  // Moves each entry that the row has seen towards it: old + alpha * (new -
  // old).  The first row is taken over whole, as there is nothing to average
  // with; a block that came later starts from 0.
  void Blend(int layer, int kv_head, const AttentionRow& row, float alpha);

  // One code (see above) a block.  Valid until the next row.
  std::span<const uint16_t> Row(int layer, int kv_head) const;

  // Of all rows, as allocated.
  size_t Bytes() const { return bytes_; }

 private:
  // Checks the row, appends zeros for the blocks that are new to the history,
  // and returns it.
  std::vector<uint16_t>& Grown(int layer, int kv_head, const AttentionRow& row);
  size_t Index(int layer, int kv_head) const;
  // Blends [first, first + count) of the row, at most one chunk.
  void BlendChunk(const AttentionRow& row, int first, int count, float alpha,
                  uint16_t* codes) const;
  void BlendRow(const AttentionRow& row, float alpha,
                std::vector<uint16_t>* codes) const;

  const Predictor::Shape shape_;
  std::vector<std::vector<uint16_t>> rows_;
  size_t bytes_ = 0;
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_HISTORY_H_
