// A session's tail: mean keys and values of its prompt (kernels/
// tail_attention.h), taken as the prompt streams by.
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

// Threads: one thread at a time, the decode thread.
class TailCells {
 public:
  explicit TailCells(const KvGeometry& geometry);

  // Takes the cells of a layer from slots that hold its first `tokens` tokens
  // in order: tables as of PrefillStream::Tables.  Tokens that do not fill a
  // cell are left to the resident blocks.
  void Take(int layer, int tokens, const DeviceArena& from,
            const std::vector<PageTable>& tables);

  // Adds to `out` and `lse`, which attention over `resident` gave for `q`,
  // what the tokens outside weigh.
  void Add(int layer, const float* q, float scale, const LayerTables& resident,
           std::span<float> out, std::span<float> lse);

  size_t bytes() const;

 private:
  const KvGeometry geometry_;
  int cells_ = 0;
  std::vector<std::vector<uint16_t>> keys_;    // [layers], bf16
  std::vector<std::vector<uint16_t>> values_;
  std::vector<uint8_t> left_out_;  // scratch
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_TAIL_CELLS_H_
