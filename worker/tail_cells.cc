#include "worker/tail_cells.h"

#include <algorithm>

#include "common/half.h"
#include "common/limits.h"

namespace forecache {
namespace {

constexpr int kCellBlocks = kTailCellTokens / kBlockTokens;

// Adds the column sums of a part [16][d] to `sums`.
void AddPart(KvType type, const std::byte* part, int head_dim, float* sums) {
  const auto* rows = reinterpret_cast<const uint16_t*>(part);
  for (int token = 0; token < kBlockTokens; ++token) {
    for (int c = 0; c < head_dim; ++c) {
      sums[c] += KvToFloat(type, rows[token * head_dim + c]);
    }
  }
}

}  // namespace

TailCells::TailCells(const KvGeometry& geometry)
    : geometry_(geometry),
      keys_(geometry.layers),
      values_(geometry.layers) {}

void TailCells::Take(int layer, int tokens, const DeviceArena& from,
                     const std::vector<PageTable>& tables) {
  const int d = geometry_.head_dim;
  cells_ = tokens / kTailCellTokens;
  const size_t size = size_t(geometry_.kv_heads) * cells_ * d;
  keys_[layer].resize(size);
  values_[layer].resize(size);
  std::vector<float> k(d), v(d);
  for (int head = 0; head < geometry_.kv_heads; ++head) {
    for (int cell = 0; cell < cells_; ++cell) {
      std::fill(k.begin(), k.end(), 0.0f);
      std::fill(v.begin(), v.end(), 0.0f);
      for (int i = 0; i < kCellBlocks; ++i) {
        const std::byte* block =
            from.ReadBlock(tables[head].slots[cell * kCellBlocks + i]).data();
        AddPart(geometry_.type, block, d, k.data());
        AddPart(geometry_.type, block + geometry_.PartBytes(), d, v.data());
      }
      const size_t at = (size_t(head) * cells_ + cell) * d;
      for (int c = 0; c < d; ++c) {
        keys_[layer][at + c] = FloatToBF16(k[c] / kTailCellTokens);
        values_[layer][at + c] = FloatToBF16(v[c] / kTailCellTokens);
      }
    }
  }
}

void TailCells::Add(int layer, const float* q, float scale,
                    const LayerTables& resident, std::span<float> out,
                    std::span<float> lse) {
  if (cells_ == 0) return;
  left_out_.assign(size_t(geometry_.kv_heads) * cells_, kTailCellTokens);
  for (int head = 0; head < geometry_.kv_heads; ++head) {
    for (int32_t block : resident.blocks[head]) {
      const int cell = block / kCellBlocks;
      if (cell < cells_) left_out_[head * cells_ + cell] -= kBlockTokens;
    }
  }
  AddTail({.kv_heads = geometry_.kv_heads,
           .group = geometry_.group,
           .head_dim = geometry_.head_dim,
           .cells = cells_,
           .keys = keys_[layer].data(),
           .values = values_[layer].data(),
           .left_out = left_out_.data(),
           .q = q,
           .scale = scale,
           .out = out.data(),
           .lse = lse.data()});
}

size_t TailCells::bytes() const {
  size_t bytes = left_out_.capacity();
  for (const auto* planes : {&keys_, &values_}) {
    for (const auto& plane : *planes) {
      bytes += plane.capacity() * sizeof(uint16_t);
    }
  }
  return bytes;
}

}  // namespace forecache
