#include "predictor/history.h"

#include "common/check.h"
#include "common/limits.h"
#include "predictor/selection.h"

namespace forecache {
namespace {

// Blocks converted at a time, so that the means stay in the first cache.
constexpr int kChunkBlocks = 256;

}  // namespace

RowHistory::RowHistory(const Predictor::Shape& shape)
    : shape_(shape), rows_(size_t{1} * shape.layers * shape.kv_heads) {}

size_t RowHistory::Index(int layer, int kv_head) const {
  return HeadIndex(shape_, layer, kv_head);
}

std::span<const uint16_t> RowHistory::Row(int layer, int kv_head) const {
  return rows_[Index(layer, kv_head)];
}

std::vector<uint16_t>& RowHistory::Grown(int layer, int kv_head,
                                         const AttentionRow& row) {
  std::vector<uint16_t>& codes = rows_[Index(layer, kv_head)];
  const size_t blocks = row.blocks;
  CheckRow(row, shape_.group, codes.size());
  if (blocks > codes.capacity()) {
    bytes_ -= codes.capacity() * sizeof(uint16_t);
    codes.reserve(GrownBlocks(blocks));
    bytes_ += codes.capacity() * sizeof(uint16_t);
  }
  codes.resize(blocks, 0);
  return codes;
}

void RowHistory::BlendChunk(const AttentionRow& row, int first, int count,
                            float alpha, uint16_t* codes) const {
  float means[kChunkBlocks];
  MeanOverGroup(row, shape_.group, first, count, means);
  if (alpha == 1) {
    for (int i = 0; i < count; ++i) codes[first + i] = EncodeScore(means[i]);
    return;
  }
  for (int i = 0; i < count; ++i) {
    const float old = DecodeScore(codes[first + i]);
    codes[first + i] = EncodeScore(old + alpha * (means[i] - old));
  }
}

void RowHistory::BlendRow(const AttentionRow& row, float alpha,
                          std::vector<uint16_t>* codes) const {
  if (row.seen.empty()) {
    for (int first = 0; first < row.blocks; first += kChunkBlocks) {
      const int count = std::min(kChunkBlocks, row.blocks - first);
      BlendChunk(row, first, count, alpha, codes->data());
    }
    return;
  }
  for (const int32_t block : row.seen) {
    BlendChunk(row, block, 1, alpha, codes->data());
  }
}

void RowHistory::Replace(int layer, int kv_head, const AttentionRow& row) {
  BlendRow(row, 1, &Grown(layer, kv_head, row));
}

void RowHistory::Blend(int layer, int kv_head, const AttentionRow& row,
                       float alpha) {
  FC_CHECK(alpha > 0 && alpha <= 1) << "alpha=" << alpha;
  const bool is_first = Row(layer, kv_head).empty();
  BlendRow(row, is_first ? 1 : alpha, &Grown(layer, kv_head, row));
}

}  // namespace forecache
