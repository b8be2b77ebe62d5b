// A session's tail: mean keys and values of what it has computed (kernels/
// tail_attention.h).
#ifndef FORECACHE_WORKER_TAIL_CELLS_H_
#define FORECACHE_WORKER_TAIL_CELLS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/tail_attention.h"
#include "kvstore/geometry.h"
#include "worker/arena.h"
#include "worker/resident_cache.h"

namespace forecache {

// The first layer with a tail.  What the very first layer attends to are tokens
// of one kind, and the mean of their neighbours does not stand for them: it
// multiplies that layer's error by 4 to 13, and takes a fifth off the others'
// (docs/QUALITY.md, "Where the tail does harm").
inline constexpr int kTailFirstLayer = 1;

// Cells of the prompt are taken as it streams by, and they go on with the
// blocks that are decoded: the newest cell may be part full.
//
// Threads: one thread at a time, the decode thread.
class TailCells {
 public:
  explicit TailCells(const KvGeometry& geometry);

  // Takes the cells of a layer from slots that hold its first `tokens` tokens
  // in order: tables as of PrefillStream::Tables.  Tokens that do not fill a
  // block are left to AddBlock.
  void Take(int layer, int tokens, const DeviceArena& from,
            const std::vector<PageTable>& tables);

  // The next block of a layer is full: `slots` hold it, one a head.  Layers
  // before kTailFirstLayer are taken no notice of, here as everywhere.
  void AddBlock(int layer, const DeviceArena& from,
                std::span<const int32_t> slots);

  // Adds to `out` and `lse`, which attention over `resident` gave for `q`,
  // what the tokens outside weigh.
  void Add(int layer, const float* q, float scale, const LayerTables& resident,
           std::span<float> out, std::span<float> lse);

  size_t bytes() const;

  // What bytes() will be, about, of a context of `blocks` blocks.
  static size_t BytesOf(const KvGeometry& geometry, int blocks);

 private:
  // [cells][kv_heads] each, the codes with head_dim channels.
  struct Plane {
    std::vector<int8_t> codes;
    std::vector<float> scales;
    std::vector<float> sums;  // [kv_heads][head_dim] of the newest cell
  };
  struct Layer {
    int blocks = 0;  // taken
    Plane keys, values;
  };

  void AddPart(const std::byte* part, int block, int head, Plane* plane);

  const KvGeometry geometry_;
  std::vector<Layer> layers_;
  std::vector<uint8_t> left_out_;  // scratch
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_TAIL_CELLS_H_
