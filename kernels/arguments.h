// What every backend demands of its arguments: a violation is a caller's bug.
#ifndef FORECACHE_KERNELS_ARGUMENTS_H_
#define FORECACHE_KERNELS_ARGUMENTS_H_

#include "kernels/attention.h"
#include "kernels/block_scores.h"
#include "kernels/code_scan.h"
#include "kernels/value_plane.h"

namespace forecache {

void CheckArguments(const DecodeAttention& args);
void CheckArguments(const ChunkAttention& args);
void CheckArguments(const ExactScores& args);
void CheckArguments(const CodeScores& args);
void CheckArguments(const CodeScan& args);
void CheckArguments(const ValueScan& args);

// Tokens that a page table names.
inline int TableTokens(const PageTable& table) {
  if (table.pages == 0) return 0;
  return (table.pages - 1) * kPageTokens + table.last_page_tokens;
}

// The K part of page `page`.
inline const uint16_t* PageKeys(const SlotMemory& memory,
                                const PageTable& table, int page) {
  return reinterpret_cast<const uint16_t*>(
      memory.base + size_t(table.slots[page]) * memory.slot_stride);
}
inline const uint16_t* PageValues(const SlotMemory& memory,
                                  const PageTable& table, int page) {
  return reinterpret_cast<const uint16_t*>(
      memory.base + size_t(table.slots[page]) * memory.slot_stride +
      memory.v_offset);
}

}  // namespace forecache

#endif  // FORECACHE_KERNELS_ARGUMENTS_H_
