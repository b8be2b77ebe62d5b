// Attention over KV blocks that lie in slots.
//
// A slot holds one block of one (layer, KV head): its K part [16][d], then, at
// `v_offset`, its V part [16][d].  A page table names the slots of one KV head
// in any order; only its last page may hold fewer than 16 tokens.  All the
// query heads of a KV head (its `group`) read each block once.
//
// Logarithms are natural.  Accumulation is in f32.
//
// Backends: ref (the specification, scalar), cpu (Highway, compiled for each
// instruction set and chosen at run time) and cuda.  kernels/testing/cases.h
// lists the shapes once; the tests and the bench run all backends on them.
#ifndef FORECACHE_KERNELS_ATTENTION_H_
#define FORECACHE_KERNELS_ATTENTION_H_

#include <cstddef>
#include <cstdint>

#include "common/half.h"
#include "kernels/isa.h"

namespace forecache {

inline constexpr int kPageTokens = 16;      // tokens of a block, in a page
inline constexpr int kKernelHeadDimMax = 256;
inline constexpr int kKernelGroupMax = 32;  // query heads of one KV head

// Where blocks lie: slot s starts at base + s * slot_stride.
struct SlotMemory {
  const std::byte* base = nullptr;  // aligned to 64
  size_t slot_stride = 0;           // bytes, a multiple of 64
  size_t v_offset = 0;              // bytes from a slot's start to its V part
  KvType type = KvType::kF16;
  int head_dim = 0;                 // a multiple of 16, at most 256
};

// The pages of one KV head.
struct PageTable {
  const int32_t* slots = nullptr;  // [pages], slot numbers
  int pages = 0;
  int last_page_tokens = 0;  // 1..16 tokens in the last page; others are full
};

// One query a head: a decode step.
struct DecodeAttention {
  SlotMemory memory;
  int kv_heads = 0;
  int group = 0;                       // query heads of one KV head, 1..32
  const float* q = nullptr;            // [kv_heads][group][head_dim], unscaled
  float scale = 0;                     // softmax scale, 1 / sqrt(head_dim)
  const PageTable* tables = nullptr;   // [kv_heads]; pages may be 0
  float* out = nullptr;                // [kv_heads][group][head_dim]
  float* lse = nullptr;                // [kv_heads][group], log-sum-exp of the
                                       // scaled logits; -inf without pages.
                                       // May be null
  // If set: for each KV head h, page_max[h] is [group][tables[h].pages], the
  // largest scaled logit of each page.
  float* const* page_max = nullptr;
};

// Without pages the output is zero and the log-sum-exp is -infinity.
//
// Threads: safe to call from any thread on distinct outputs.
void DecodeAttentionRef(const DecodeAttention& args);
void DecodeAttentionCpu(const DecodeAttention& args);

// Many queries a head, causal: one chunk of a prefill over the blocks before
// it and its own, which are in the page tables too (all heads have the same
// number of tokens).
struct ChunkAttention {
  SlotMemory memory;
  int kv_heads = 0;
  int group = 0;
  int queries = 0;         // rows of this chunk
  int first_position = 0;  // of row 0: row i sees tokens 0 .. first_position+i
  const float* q = nullptr;  // [queries][kv_heads][group][head_dim], unscaled
  float scale = 0;
  const PageTable* tables = nullptr;  // [kv_heads]; in token order
  float* out = nullptr;  // [queries][kv_heads][group][head_dim]
};

// REQUIRES: each table holds at least first_position + queries tokens.
// `part` of `parts` does its share of the (row, head) work, so that several
// threads can call it at once with the same args.
void ChunkAttentionRef(const ChunkAttention& args);
void ChunkAttentionCpu(const ChunkAttention& args, int part, int parts);

// Merges partial attention over disjoint tokens: (out, lse) of a and b into a.
// [heads][head_dim] and [heads].  Both -infinity: stays zero.
void MergeAttention(int heads, int head_dim, float* out_a, float* lse_a,
                    const float* out_b, const float* lse_b);

}  // namespace forecache

#endif  // FORECACHE_KERNELS_ATTENTION_H_
