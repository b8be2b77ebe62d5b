#include "predictor/row_ring.h"

#include <algorithm>

#include "common/check.h"
#include "predictor/history.h"
#include "predictor/selection.h"

namespace forecache {
namespace {

// Blocks converted at a time, so that the means stay in the first cache.
constexpr int kChunkBlocks = 256;

}  // namespace

RowRing::RowRing(const Predictor::Shape& shape, int rows, Unseen unseen)
    : shape_(shape),
      row_count_(rows),
      unseen_(unseen),
      rings_(size_t{1} * shape.layers * shape.kv_heads) {
  FC_CHECK(rows > 0) << "rows=" << rows;
}

size_t RowRing::Index(int layer, int kv_head) const {
  return HeadIndex(shape_, layer, kv_head);
}

std::span<const uint16_t> RowRing::Row(int layer, int kv_head, int age) const {
  const Ring& ring = rings_[Index(layer, kv_head)];
  FC_CHECK(age >= 0 && age < row_count_) << "age=" << age;
  if (ring.newest < 0) return {};
  const int row = (ring.newest + row_count_ - age) % row_count_;
  return {ring.codes.data() + row * ring.stride, size_t(ring.blocks)};
}

void RowRing::Grow(int blocks, Ring* ring) {
  if (blocks > ring->stride) {
    const size_t stride = GrownBlocks(blocks);
    std::vector<uint16_t> codes(stride * row_count_, 0);
    for (int row = 0; row < row_count_; ++row) {
      std::copy_n(ring->codes.begin() + row * ring->stride, ring->blocks,
                  codes.begin() + row * stride);
    }
    bytes_ += (codes.size() - ring->codes.size()) * sizeof(uint16_t);
    ring->codes = std::move(codes);
    ring->stride = stride;
  }
  ring->blocks = blocks;
}

void RowRing::Encode(const AttentionRow& row, uint16_t* codes) {
  float means[kChunkBlocks];
  if (row.seen.empty()) {
    for (int first = 0; first < row.blocks; first += kChunkBlocks) {
      const int count = std::min(kChunkBlocks, row.blocks - first);
      MeanOverGroup(row, shape_.group, first, count, means);
      for (int i = 0; i < count; ++i) codes[first + i] = EncodeScore(means[i]);
    }
    return;
  }
  for (const int32_t block : row.seen) {
    MeanOverGroup(row, shape_.group, block, 1, means);
    codes[block] = EncodeScore(means[0]);
  }
}

bool RowRing::Push(int layer, int kv_head, const AttentionRow& row) {
  Ring& ring = rings_[Index(layer, kv_head)];
  CheckRow(row, shape_.group, ring.blocks);
  Grow(row.blocks, &ring);
  const bool is_first = ring.newest < 0;
  const auto previous = Row(layer, kv_head, 0);
  ring.newest = (ring.newest + 1) % row_count_;
  uint16_t* const codes = ring.codes.data() + ring.newest * ring.stride;
  if (!is_first && unseen_ == Unseen::kPrevious) {
    std::copy(previous.begin(), previous.end(), codes);
  } else {
    std::fill_n(codes, row.blocks, uint16_t{0});
  }
  Encode(row, codes);
  for (int other = 1; is_first && other < row_count_; ++other) {
    std::copy_n(codes, row.blocks, ring.codes.data() + other * ring.stride);
  }
  return is_first;
}

}  // namespace forecache
