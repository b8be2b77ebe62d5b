// The last rows of each (layer, KV head), for policies that look at several.
#ifndef FORECACHE_PREDICTOR_ROW_RING_H_
#define FORECACHE_PREDICTOR_ROW_RING_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "predictor/predictor.h"

namespace forecache {

// Codes (predictor/history.h) of the newest `rows` rows.  The first row of a
// (layer, KV head) is taken for all the rows before it; a block that came
// later has zeros there.
//
// Bounded by `rows` times kContextBlocksMax codes a (layer, KV head); memory
// grows in steps as the context does, and is not asked for between the steps.
//
// Threads: one thread at a time.
class RowRing {
 public:
  // What a row says of blocks that it has not seen.
  enum class Unseen : uint32_t {
    kZero = 0,      // nothing: they were not attended
    kPrevious = 1,  // what the row before said
  };

  RowRing(const Predictor::Shape& shape, int rows, Unseen unseen);

  // Whether this was the first row of the (layer, KV head).
  bool Push(int layer, int kv_head, const AttentionRow& row);

  // Age 0 is the newest.  Empty before the first row.  Valid until Push.
  // REQUIRES: 0 <= age < rows.
  std::span<const uint16_t> Row(int layer, int kv_head, int age) const;

  // Of all rows, as allocated.
  size_t Bytes() const { return bytes_; }

 private:
  struct Ring {
    std::vector<uint16_t> codes;  // [rows][stride]
    size_t stride = 0;
    int blocks = 0;
    int newest = -1;  // row of `codes`
  };
  size_t Index(int layer, int kv_head) const;
  void Grow(int blocks, Ring* ring);
  void Encode(const AttentionRow& row, uint16_t* codes);

  const Predictor::Shape shape_;
  const int row_count_;
  const Unseen unseen_;
  std::vector<Ring> rings_;
  size_t bytes_ = 0;
};

}  // namespace forecache

#endif  // FORECACHE_PREDICTOR_ROW_RING_H_
