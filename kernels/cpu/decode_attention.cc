// DecodeAttention: one query a head over blocks in any order.
//
// Runs of 32 pages go through two passes: keys to logits, then values weighted
// by their softmax.  Each pass fetches ahead what the other will read, so that
// memory stays busy under both.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>

#include "kernels/arguments.h"
#include "kernels/attention.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/decode_attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/key_dots-inl.h"
#include "kernels/cpu/vector-inl.h"

#ifndef FORECACHE_DECODE_ATTENTION_ONCE
#define FORECACHE_DECODE_ATTENTION_ONCE
namespace forecache {

inline constexpr int kRunPages = 32;
inline constexpr int kRunTokens = kRunPages * kPageTokens;

// One thread's working memory, the same for all instruction sets.
struct DecodeScratch {
  alignas(64) float q[kKernelGroupMax * kKernelHeadDimMax];  // scaled
  alignas(64) float weights[kKernelGroupMax * kRunTokens];   // logits first
  float largest[kKernelGroupMax];
  float sum[kKernelGroupMax];
  float shrink[kKernelGroupMax];  // what the output so far is worth now
};

inline DecodeScratch& ThreadDecodeScratch() {
  // On the heap: every thread of the process, of small stacks too, pays for
  // what is thread-local in place.
  thread_local const std::unique_ptr<DecodeScratch> scratch =
      std::make_unique<DecodeScratch>();
  return *scratch;
}

}  // namespace forecache
#endif  // FORECACHE_DECODE_ATTENTION_ONCE

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void DecodeAttentionAll(const DecodeAttention& args) {
  DecodeAttentionRef(args);
}
#else

HWY_INLINE void FetchAhead(const uint16_t* part, int head_dim) {
  const char* bytes = reinterpret_cast<const char*>(part);
  for (int i = 0; i < kPageTokens * head_dim * 2; i += 64) {
    __builtin_prefetch(bytes + i, 0, 2);
  }
}

// Pages [begin, end) of one KV head.
struct Run {
  const SlotMemory& memory;
  const PageTable& table;
  int begin;
  int end;
  int tokens;  // of these pages
};

// Keys to logits; the lanes of tokens that do not exist become kMasked.
template <KvType kType>
void RunLogits(const Run& run, int group, DecodeScratch& scratch) {
  const int head_dim = run.memory.head_dim;
  for (int page = run.begin; page < run.end; ++page) {
    FetchAhead(PageValues(run.memory, run.table, page), head_dim);
    const int at = (page - run.begin) * kPageTokens;
    BlockDotsGroup<kType>(PageKeys(run.memory, run.table, page), head_dim,
                          scratch.q, group, scratch.weights + at, kRunTokens);
  }
  const int padded = (run.end - run.begin) * kPageTokens;
  for (int g = 0; g < group; ++g) {
    std::fill(scratch.weights + size_t(g) * kRunTokens + run.tokens,
              scratch.weights + size_t(g) * kRunTokens + padded, kMasked);
  }
}

void RunPageMax(const Run& run, int group, const DecodeScratch& scratch,
                float* page_max) {
  const DF df;
  for (int g = 0; g < group; ++g) {
    const float* logits = scratch.weights + size_t(g) * kRunTokens;
    for (int page = run.begin; page < run.end; ++page) {
      VF largest = hn::LoadU(df, logits);
      for (int t = kLanes; t < kPageTokens; t += kLanes) {
        largest = hn::Max(largest, hn::LoadU(df, logits + t));
      }
      logits += kPageTokens;
      page_max[size_t(g) * run.table.pages + page] =
          hn::GetLane(hn::MaxOfLanes(df, largest));
    }
  }
}

// Logits to weights relative to the largest logit so far.
void RunSoftmax(const Run& run, int group, DecodeScratch& scratch) {
  const DF df;
  const int padded = (run.end - run.begin) * kPageTokens;
  for (int g = 0; g < group; ++g) {
    float* HWY_RESTRICT weights = scratch.weights + size_t(g) * kRunTokens;
    VF top = hn::Set(df, scratch.largest[g]);
    for (int t = 0; t < padded; t += kLanes) {
      top = hn::Max(top, hn::LoadU(df, weights + t));
    }
    top = hn::MaxOfLanes(df, top);
    const float largest = hn::GetLane(top);
    scratch.shrink[g] = std::exp(scratch.largest[g] - largest);
    scratch.largest[g] = largest;
    const VF log2e = hn::Set(df, kLog2E);
    VF sum = hn::Zero(df);
    for (int t = 0; t < padded; t += kLanes) {
      const VF logit = hn::LoadU(df, weights + t);
      const VF weight = Exp2(hn::Mul(hn::Sub(logit, top), log2e));
      sum = hn::Add(sum, weight);
      hn::StoreU(weight, df, weights + t);
    }
    scratch.sum[g] = scratch.sum[g] * scratch.shrink[g] +
                     hn::GetLane(hn::SumOfLanes(df, sum));
  }
}

// Adds the run's weighted values to kVecs vectors of kHeads outputs.
template <KvType kType, int kHeads, int kVecs>
HWY_INLINE void AddValues(const Run& run, int column,
                          const float* HWY_RESTRICT weights,
                          const float* HWY_RESTRICT shrink,
                          float* HWY_RESTRICT out, const PageTable* ahead) {
  const DF df;
  const int head_dim = run.memory.head_dim;
  VF acc[kHeads][kVecs];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
    const VF factor = hn::Set(df, shrink[h]);
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      acc[h][v] = hn::Mul(
          factor,
          hn::LoadU(df, out + size_t(h) * head_dim + column + v * kLanes));
    }
  }
  int token = 0;
  for (int page = run.begin; page < run.end; ++page) {
    if (ahead != nullptr && page + kRunPages < ahead->pages) {
      FetchAhead(PageKeys(run.memory, *ahead, page + kRunPages), head_dim);
    }
    const uint16_t* HWY_RESTRICT values =
        PageValues(run.memory, run.table, page) + column;
    const int end = std::min(token + kPageTokens, run.tokens);
    for (; token < end; ++token, values += head_dim) {
      VF value[kVecs];
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        value[v] = LoadKv<kType>(values + v * kLanes);
      }
#pragma GCC unroll 4
      for (int h = 0; h < kHeads; ++h) {
        const VF weight = hn::Set(df, weights[h * kRunTokens + token]);
#pragma GCC unroll 4
        for (int v = 0; v < kVecs; ++v) {
          acc[h][v] = hn::MulAdd(weight, value[v], acc[h][v]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      hn::StoreU(acc[h][v], df,
                 out + size_t(h) * head_dim + column + v * kLanes);
    }
  }
}

template <KvType kType, int kHeads>
void RunValues(const Run& run, int first_head, DecodeScratch& scratch,
               float* out) {
  constexpr int kWide = 4;
  const int head_dim = run.memory.head_dim;
  const float* weights = scratch.weights + size_t(first_head) * kRunTokens;
  const float* shrink = scratch.shrink + first_head;
  float* rows = out + size_t(first_head) * head_dim;
  // The first tile fetches the next run's keys for all.
  const PageTable* ahead = first_head == 0 ? &run.table : nullptr;
  int column = 0;
  for (; column + kWide * kLanes <= head_dim; column += kWide * kLanes) {
    AddValues<kType, kHeads, kWide>(run, column, weights, shrink, rows,
                                    column == 0 ? ahead : nullptr);
  }
  for (; column < head_dim; column += kLanes) {
    AddValues<kType, kHeads, 1>(run, column, weights, shrink, rows,
                                column == 0 ? ahead : nullptr);
  }
}

template <KvType kType>
void RunValuesGroup(const Run& run, int group, DecodeScratch& scratch,
                    float* out) {
  int h = 0;
  for (; h + kHeadsAtOnce <= group; h += kHeadsAtOnce) {
    RunValues<kType, kHeadsAtOnce>(run, h, scratch, out);
  }
  switch (group - h) {
    case 3:
      return RunValues<kType, 3>(run, h, scratch, out);
    case 2:
      return RunValues<kType, 2>(run, h, scratch, out);
    case 1:
      return RunValues<kType, 1>(run, h, scratch, out);
    default:
      return;
  }
}

template <KvType kType>
void DecodeHead(const DecodeAttention& args, int head) {
  const SlotMemory& memory = args.memory;
  const PageTable& table = args.tables[head];
  const int group = args.group;
  const size_t floats = size_t(group) * memory.head_dim;
  DecodeScratch& scratch = ThreadDecodeScratch();
  float* out = args.out + head * floats;
  std::fill(out, out + floats, 0.0f);
  for (size_t i = 0; i < floats; ++i) {
    scratch.q[i] = args.q[head * floats + i] * args.scale;
  }
  std::fill(scratch.largest, scratch.largest + group, kMasked);
  std::fill(scratch.sum, scratch.sum + group, 0.0f);
  for (int begin = 0; begin < table.pages; begin += kRunPages) {
    const int end = std::min(begin + kRunPages, table.pages);
    const int tokens = end < table.pages
                           ? kRunTokens
                           : TableTokens(table) - begin * kPageTokens;
    const Run run{memory, table, begin, end, tokens};
    RunLogits<kType>(run, group, scratch);
    if (args.page_max != nullptr) {
      RunPageMax(run, group, scratch, args.page_max[head]);
    }
    RunSoftmax(run, group, scratch);
    RunValuesGroup<kType>(run, group, scratch, out);
  }
  for (int g = 0; g < group; ++g) {
    const bool empty = table.pages == 0;
    const float inverse = empty ? 0.0f : 1.0f / scratch.sum[g];
    float* row = out + size_t(g) * memory.head_dim;
    for (int c = 0; c < memory.head_dim; ++c) row[c] *= inverse;
    if (args.lse == nullptr) continue;
    args.lse[size_t(head) * group + g] =
        empty ? -std::numeric_limits<float>::infinity()
              : scratch.largest[g] + std::log(scratch.sum[g]);
  }
}

void DecodeAttentionAll(const DecodeAttention& args) {
  for (int head = 0; head < args.kv_heads; ++head) {
    if (args.memory.type == KvType::kF16) {
      DecodeHead<KvType::kF16>(args, head);
    } else {
      DecodeHead<KvType::kBF16>(args, head);
    }
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forecache {

HWY_EXPORT(DecodeAttentionAll);

void DecodeAttentionCpu(const DecodeAttention& args) {
  CheckArguments(args);
  HWY_DYNAMIC_DISPATCH(DecodeAttentionAll)(args);
}

}  // namespace forecache
#endif  // HWY_ONCE
