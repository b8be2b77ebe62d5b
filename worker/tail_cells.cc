#include "worker/tail_cells.h"

#include <algorithm>
#include <cmath>

#include "common/half.h"
#include "common/limits.h"

namespace forecache {
namespace {

constexpr int kCellBlocks = kTailCellTokens / kBlockTokens;
constexpr float kCodeMost = 127;

// Cells of so many blocks.
int CellsOf(int blocks) { return (blocks + kCellBlocks - 1) / kCellBlocks; }

// Makes room for one more cell, a few at a time: doubling would hold memory
// that no cell uses.
template <typename T>
void Grow(size_t cell, int cells, std::vector<T>* values) {
  constexpr int kMoreCells = 4;
  const size_t size = cell * cells;
  if (values->capacity() < size) values->reserve(size + cell * kMoreCells);
  values->resize(size);
}

// Codes of `sums` / `tokens`; returns their scale.
float Encode(std::span<const float> sums, int tokens, int8_t* codes) {
  float most = 0;
  for (const float sum : sums) most = std::max(most, std::abs(sum));
  if (most == 0) {
    std::fill_n(codes, sums.size(), 0);
    return 0;
  }
  const float inverse = kCodeMost / most;
  for (size_t c = 0; c < sums.size(); ++c) {
    codes[c] = static_cast<int8_t>(std::lround(sums[c] * inverse));
  }
  return most / (kCodeMost * static_cast<float>(tokens));
}

}  // namespace

TailCells::TailCells(const KvGeometry& geometry)
    : geometry_(geometry), layers_(geometry.layers) {
  for (int layer = kTailFirstLayer; layer < geometry.layers; ++layer) {
    for (Plane* plane : {&layers_[layer].keys, &layers_[layer].values}) {
      plane->sums.resize(size_t(geometry.kv_heads) * geometry.head_dim);
    }
  }
}

void TailCells::Take(int layer, int tokens, const DeviceArena& from,
                     const std::vector<PageTable>& tables) {
  if (layer < kTailFirstLayer) return;
  std::vector<int32_t> slots(geometry_.kv_heads);
  const int blocks = tokens / kBlockTokens;
  for (Plane* plane : {&layers_[layer].keys, &layers_[layer].values}) {
    plane->codes.reserve(plane->sums.size() * CellsOf(blocks));
    plane->scales.reserve(size_t(geometry_.kv_heads) * CellsOf(blocks));
  }
  for (int block = 0; block < blocks; ++block) {
    for (int head = 0; head < geometry_.kv_heads; ++head) {
      slots[head] = tables[head].slots[block];
    }
    AddBlock(layer, from, slots);
  }
}

void TailCells::AddBlock(int layer, const DeviceArena& from,
                         std::span<const int32_t> slots) {
  if (layer < kTailFirstLayer) return;
  Layer& at = layers_[layer];
  const int block = at.blocks++;
  const size_t heads = geometry_.kv_heads;
  for (Plane* plane : {&at.keys, &at.values}) {
    Grow(plane->sums.size(), CellsOf(at.blocks), &plane->codes);
    Grow(heads, CellsOf(at.blocks), &plane->scales);
    if (block % kCellBlocks == 0) {
      std::fill(plane->sums.begin(), plane->sums.end(), 0.0f);
    }
  }
  for (size_t head = 0; head < heads; ++head) {
    const std::byte* part = from.ReadBlock(slots[head]).data();
    AddPart(part, block, static_cast<int>(head), &at.keys);
    AddPart(part + geometry_.PartBytes(), block, static_cast<int>(head),
            &at.values);
  }
}

// Adds a part [16][d] to the newest cell, which is `block`'s.
void TailCells::AddPart(const std::byte* part, int block, int head,
                        Plane* plane) {
  const int d = geometry_.head_dim;
  const auto* rows = reinterpret_cast<const uint16_t*>(part);
  float* const sums = plane->sums.data() + size_t(head) * d;
  for (int token = 0; token < kBlockTokens; ++token) {
    for (int c = 0; c < d; ++c) {
      sums[c] += KvToFloat(geometry_.type, rows[token * d + c]);
    }
  }
  const size_t cell =
      size_t(block / kCellBlocks) * geometry_.kv_heads + head;
  plane->scales[cell] =
      Encode({sums, size_t(d)}, (block % kCellBlocks + 1) * kBlockTokens,
             plane->codes.data() + cell * d);
}

void TailCells::Add(int layer, const float* q, float scale,
                    const LayerTables& resident, std::span<float> out,
                    std::span<float> lse) {
  const Layer& at = layers_[layer];
  if (at.blocks == 0) return;
  const int heads = geometry_.kv_heads;
  const int cells = CellsOf(at.blocks);
  left_out_.assign(size_t(cells) * heads, kTailCellTokens);
  const int in_newest = (at.blocks - 1) % kCellBlocks + 1;
  std::fill(left_out_.end() - heads, left_out_.end(),
            static_cast<uint8_t>(in_newest * kBlockTokens));
  for (int head = 0; head < heads; ++head) {
    for (const int32_t block : resident.blocks[head]) {
      if (block >= at.blocks) continue;
      left_out_[size_t(block / kCellBlocks) * heads + head] -= kBlockTokens;
    }
  }
  AddTail({.kv_heads = heads,
           .group = geometry_.group,
           .head_dim = geometry_.head_dim,
           .cells = cells,
           .keys = at.keys.codes.data(),
           .values = at.values.codes.data(),
           .key_scales = at.keys.scales.data(),
           .value_scales = at.values.scales.data(),
           .left_out = left_out_.data(),
           .q = q,
           .scale = scale,
           .out = out.data(),
           .lse = lse.data()});
}

size_t TailCells::bytes() const {
  size_t bytes = left_out_.capacity();
  for (const Layer& layer : layers_) {
    for (const Plane* plane : {&layer.keys, &layer.values}) {
      bytes += plane->codes.capacity() +
               (plane->scales.capacity() + plane->sums.capacity()) *
                   sizeof(float);
    }
  }
  return bytes;
}

size_t TailCells::BytesOf(const KvGeometry& geometry, int blocks) {
  const int layers = std::max(geometry.layers - kTailFirstLayer, 0);
  const size_t planes = 2 * size_t(layers) * geometry.kv_heads;
  const size_t cell = geometry.head_dim + sizeof(float);
  return planes * (CellsOf(blocks) * cell + geometry.head_dim * sizeof(float));
}

}  // namespace forecache
