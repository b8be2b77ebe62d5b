// ChunkAttention: many queries a head, causal, blocked like a matrix product.
//
// A row is one query of one head; all rows that share a KV head go together.
// For a block of rows, each tile of 64 tokens is converted to f32 once (keys
// transposed), then strips of six rows run: logits (a 6 x 64 product held in
// registers), softmax against the running maximum, and values.  Only tiles that
// reach past a row's position are masked.
#include <algorithm>
#include <cstring>
#include <memory>

#include "common/check.h"
#include "kernels/arguments.h"
#include "kernels/attention.h"
#include "kernels/cpu/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/chunk_attention.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/cpu/vector-inl.h"

#ifndef FORECACHE_CHUNK_ATTENTION_ONCE
#define FORECACHE_CHUNK_ATTENTION_ONCE
namespace forecache {

inline constexpr int kTileTokens = 64;
inline constexpr int kTilePages = kTileTokens / kPageTokens;
inline constexpr int kStripRows = 6;
// Rows whose logits are kept at once: while their strips run, the tile's keys,
// then its values, stay in the first-level cache.
inline constexpr int kBatchRows = 8 * kStripRows;
// Rows that share one conversion of each tile.
inline constexpr int kBlockRowsMax = 4 * kBatchRows;
inline constexpr int kLanesMax = 16;

// One thread's working memory: about 400 KiB, made on its first call.
struct ChunkScratch {
  // [strip][head_dim][kStripRows], scaled to base-2 logits.
  alignas(64) float q[kBlockRowsMax * kKernelHeadDimMax];
  alignas(64) float out[kBlockRowsMax * kKernelHeadDimMax];
  alignas(64) float keys[kKernelHeadDimMax * kTileTokens];  // [head_dim][64]
  alignas(64) float values[kTileTokens * kKernelHeadDimMax];
  alignas(64) float weights[kBatchRows * kTileTokens];
  alignas(64) float sums[kBlockRowsMax * kLanesMax];  // a sum in each lane
  float largest[kBlockRowsMax];
  float shrink[kBlockRowsMax];
  int position[kBlockRowsMax];
};

inline ChunkScratch& ThreadChunkScratch() {
  thread_local const std::unique_ptr<ChunkScratch> scratch =
      std::make_unique<ChunkScratch>();
  return *scratch;
}

// Rows [first, first + rows) of one KV head, in order of position.
struct RowBlock {
  int head;
  int first;
  int rows;
  int padded;  // rows, rounded up to whole strips
};

}  // namespace forecache
#endif  // FORECACHE_CHUNK_ATTENTION_ONCE

HWY_BEFORE_NAMESPACE();
namespace forecache {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void ChunkAttentionBlocks(const ChunkAttention& args, int part, int parts) {
  if (part == 0) ChunkAttentionRef(args);
}
#else

// Vectors of a strip's row that are in registers at once.
inline constexpr int kWide = kRegisters == 32 ? 4 : 2;

// The offset, in floats, of a row's head in q and out.
HWY_INLINE size_t RowOffset(const ChunkAttention& args, int head, int row) {
  const int query = row / args.group;
  const int g = row % args.group;
  return ((size_t(query) * args.kv_heads + head) * args.group + g) *
         args.memory.head_dim;
}

void StartRows(const ChunkAttention& args, const RowBlock& block,
               ChunkScratch& scratch) {
  const int head_dim = args.memory.head_dim;
  const float scale = args.scale * kLog2E;
  for (int r = 0; r < block.padded; ++r) {
    float* strip = scratch.q +
                   size_t(r / kStripRows) * kStripRows * head_dim +
                   r % kStripRows;
    // Padding repeats the last row: its results are dropped.
    const int row = block.first + std::min(r, block.rows - 1);
    const float* q = args.q + RowOffset(args, block.head, row);
    for (int c = 0; c < head_dim; ++c) {
      strip[size_t(c) * kStripRows] = q[c] * scale;
    }
    scratch.position[r] = args.first_position + row / args.group;
    scratch.largest[r] = kMasked;
  }
  std::fill(scratch.out, scratch.out + size_t(block.padded) * head_dim, 0.0f);
  std::fill(scratch.sums, scratch.sums + size_t(block.padded) * kLanes, 0.0f);
}

// Four keys, transposed four channels at a time.
template <KvType kType>
HWY_INLINE void TransposeKeys4(const uint16_t* HWY_RESTRICT keys, int head_dim,
                               float* HWY_RESTRICT to) {
  const hn::Full128<float> d4;
  const hn::Repartition<double, decltype(d4)> dd;
  const auto load = [&](const uint16_t* from) HWY_ATTR {
    if constexpr (kType == KvType::kF16) {
      const hn::Rebind<hwy::float16_t, decltype(d4)> dh;
      return hn::PromoteTo(
          d4, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(from)));
    } else {
      const hn::Rebind<uint16_t, decltype(d4)> du16;
      const hn::RebindToUnsigned<decltype(d4)> du32;
      return hn::BitCast(
          d4, hn::ShiftLeft<16>(hn::PromoteTo(du32, hn::LoadU(du16, from))));
    }
  };
  for (int c = 0; c < head_dim; c += 4) {
    const auto a = load(keys + c);
    const auto b = load(keys + head_dim + c);
    const auto e = load(keys + 2 * head_dim + c);
    const auto f = load(keys + 3 * head_dim + c);
    const auto ab_low = hn::BitCast(dd, hn::InterleaveLower(d4, a, b));
    const auto ab_high = hn::BitCast(dd, hn::InterleaveUpper(d4, a, b));
    const auto ef_low = hn::BitCast(dd, hn::InterleaveLower(d4, e, f));
    const auto ef_high = hn::BitCast(dd, hn::InterleaveUpper(d4, e, f));
    float* column = to + size_t(c) * kTileTokens;
    hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(dd, ab_low, ef_low)), d4,
               column);
    hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(dd, ab_low, ef_low)), d4,
               column + kTileTokens);
    hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(dd, ab_high, ef_high)), d4,
               column + 2 * kTileTokens);
    hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(dd, ab_high, ef_high)), d4,
               column + 3 * kTileTokens);
  }
}

// Converts the tile that begins at page `first`.  Tokens that do not exist
// become zeros: what lies in their memory may be no number.
template <KvType kType>
void ConvertTile(const SlotMemory& memory, const PageTable& table, int first,
                 ChunkScratch& scratch) {
  const DF df;
  const int head_dim = memory.head_dim;
  const int tokens =
      std::min(kTileTokens, TableTokens(table) - first * kPageTokens);
  const int pages = (tokens + kPageTokens - 1) / kPageTokens;
  for (int p = 0; p < pages; ++p) {
    const uint16_t* keys = PageKeys(memory, table, first + p);
    for (int t = 0; t < kPageTokens; t += 4) {
      TransposeKeys4<kType>(keys + size_t(t) * head_dim, head_dim,
                            scratch.keys + p * kPageTokens + t);
    }
    const uint16_t* values = PageValues(memory, table, first + p);
    float* to = scratch.values + size_t(p) * kPageTokens * head_dim;
    for (int i = 0; i < kPageTokens * head_dim; i += kLanes) {
      hn::Store(LoadKv<kType>(values + i), df, to + i);
    }
  }
  if (tokens == kTileTokens) return;
  for (int c = 0; c < head_dim; ++c) {
    std::fill(scratch.keys + size_t(c) * kTileTokens + tokens,
              scratch.keys + size_t(c + 1) * kTileTokens, 0.0f);
  }
  std::fill(scratch.values + size_t(tokens) * head_dim,
            scratch.values + size_t(kTileTokens) * head_dim, 0.0f);
}

// acc[r][v] += x[r] * y[v], six rows by kVecs vectors, over `depth` steps.
// The innermost loop of prefill: all accumulators stay in registers.
template <int kVecs, int kXRow, int kXStep>
HWY_INLINE void MultiplyStrip(const float* HWY_RESTRICT x,
                              const float* HWY_RESTRICT y, size_t y_step,
                              int depth, VF (&acc)[kStripRows][kVecs]) {
  const DF df;
  for (int i = 0; i < depth; ++i) {
    VF row[kVecs];
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) row[v] = hn::Load(df, y + v * kLanes);
#pragma GCC unroll 6
    for (int r = 0; r < kStripRows; ++r) {
      const VF factor = hn::Set(df, x[r * kXRow]);
#pragma GCC unroll 4
      for (int v = 0; v < kVecs; ++v) {
        acc[r][v] = hn::MulAdd(factor, row[v], acc[r][v]);
      }
    }
    x += kXStep;
    y += y_step;
  }
}

// Logits of six rows against the tile: weights [6][64].
void StripLogits(const float* HWY_RESTRICT q, const float* HWY_RESTRICT keys,
                 int head_dim, float* HWY_RESTRICT weights) {
  const DF df;
  for (int column = 0; column < kTileTokens; column += kWide * kLanes) {
    VF acc[kStripRows][kWide];
#pragma GCC unroll 6
    for (int r = 0; r < kStripRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kWide; ++v) acc[r][v] = hn::Zero(df);
    }
    MultiplyStrip<kWide, 1, kStripRows>(q, keys + column, kTileTokens,
                                        head_dim, acc);
#pragma GCC unroll 6
    for (int r = 0; r < kStripRows; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < kWide; ++v) {
        hn::Store(acc[r][v], df,
                  weights + r * kTileTokens + column + v * kLanes);
      }
    }
  }
}

// Logits to weights; only the row's first `visible` tokens of the tile count.
HWY_INLINE void RowSoftmax(float* HWY_RESTRICT weights, int visible,
                           float* HWY_RESTRICT largest,
                           float* HWY_RESTRICT sums,
                           float* HWY_RESTRICT shrink) {
  const DF df;
  constexpr int kVecs = kTileTokens / kLanes;
  if (visible < kTileTokens) {
    const VF limit = hn::Set(df, static_cast<float>(visible));
    for (int v = 0; v < kVecs; ++v) {
      const auto seen =
          hn::Lt(hn::Iota(df, static_cast<float>(v * kLanes)), limit);
      hn::Store(hn::IfThenElse(seen, hn::Load(df, weights + v * kLanes),
                               hn::Set(df, kMasked)),
                df, weights + v * kLanes);
    }
  }
  VF top = hn::Load(df, weights);
  for (int v = 1; v < kVecs; ++v) {
    top = hn::Max(top, hn::Load(df, weights + v * kLanes));
  }
  const VF before = hn::Set(df, *largest);
  top = hn::Max(hn::MaxOfLanes(df, top), before);
  const VF factor = Exp2(hn::Sub(before, top));
  VF sum = hn::Mul(factor, hn::Load(df, sums));
  for (int v = 0; v < kVecs; ++v) {
    const VF weight =
        Exp2(hn::Sub(hn::Load(df, weights + v * kLanes), top));
    sum = hn::Add(sum, weight);
    hn::Store(weight, df, weights + v * kLanes);
  }
  hn::Store(sum, df, sums);
  *largest = hn::GetLane(top);
  *shrink = hn::GetLane(factor);
}

// out[6] = shrink * out + weights x values, for kVecs vectors of channels.
template <int kVecs>
HWY_INLINE void StripValuesAt(const float* HWY_RESTRICT weights,
                              const float* HWY_RESTRICT values, int head_dim,
                              const float* HWY_RESTRICT shrink,
                              float* HWY_RESTRICT out) {
  const DF df;
  VF acc[kStripRows][kVecs];
#pragma GCC unroll 6
  for (int r = 0; r < kStripRows; ++r) {
    const VF factor = hn::Set(df, shrink[r]);
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      acc[r][v] = hn::Mul(
          factor, hn::Load(df, out + size_t(r) * head_dim + v * kLanes));
    }
  }
  MultiplyStrip<kVecs, kTileTokens, 1>(weights, values, head_dim, kTileTokens,
                                       acc);
#pragma GCC unroll 6
  for (int r = 0; r < kStripRows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < kVecs; ++v) {
      hn::Store(acc[r][v], df, out + size_t(r) * head_dim + v * kLanes);
    }
  }
}

void StripValues(const float* HWY_RESTRICT weights,
                 const float* HWY_RESTRICT values, int head_dim,
                 const float* HWY_RESTRICT shrink, float* HWY_RESTRICT out) {
  int c = 0;
  for (; c + kWide * kLanes <= head_dim; c += kWide * kLanes) {
    StripValuesAt<kWide>(weights, values + c, head_dim, shrink, out + c);
  }
  for (; c < head_dim; c += kLanes) {
    StripValuesAt<1>(weights, values + c, head_dim, shrink, out + c);
  }
}

// One converted tile, which begins at token `first`, for all rows.
void AttendTile(const RowBlock& block, int head_dim, int first,
                ChunkScratch& scratch) {
  for (int begin = 0; begin < block.padded; begin += kBatchRows) {
    const int end = std::min(begin + kBatchRows, block.padded);
    // Positions rise with the rows: the last row sees most.
    if (scratch.position[end - 1] < first) continue;
    for (int r = begin; r < end; r += kStripRows) {
      StripLogits(scratch.q + size_t(r) * head_dim, scratch.keys, head_dim,
                  scratch.weights + size_t(r - begin) * kTileTokens);
    }
    for (int r = begin; r < end; ++r) {
      RowSoftmax(scratch.weights + size_t(r - begin) * kTileTokens,
                 scratch.position[r] + 1 - first, &scratch.largest[r],
                 scratch.sums + size_t(r) * kLanes, &scratch.shrink[r]);
    }
    for (int r = begin; r < end; r += kStripRows) {
      StripValues(scratch.weights + size_t(r - begin) * kTileTokens,
                  scratch.values, head_dim, scratch.shrink + r,
                  scratch.out + size_t(r) * head_dim);
    }
  }
}

void FinishRows(const ChunkAttention& args, const RowBlock& block,
                const ChunkScratch& scratch) {
  const DF df;
  const int head_dim = args.memory.head_dim;
  for (int r = 0; r < block.rows; ++r) {
    const VF sum =
        hn::SumOfLanes(df, hn::Load(df, scratch.sums + size_t(r) * kLanes));
    const float inverse = 1.0f / hn::GetLane(sum);
    const float* from = scratch.out + size_t(r) * head_dim;
    float* to = args.out + RowOffset(args, block.head, block.first + r);
    for (int c = 0; c < head_dim; ++c) to[c] = from[c] * inverse;
  }
}

template <KvType kType>
void AttendBlock(const ChunkAttention& args, const RowBlock& block) {
  ChunkScratch& scratch = ThreadChunkScratch();
  const PageTable& table = args.tables[block.head];
  StartRows(args, block, scratch);
  const int tokens = scratch.position[block.padded - 1] + 1;
  for (int first = 0; first < tokens; first += kTileTokens) {
    ConvertTile<kType>(args.memory, table, first / kPageTokens, scratch);
    AttendTile(block, args.memory.head_dim, first, scratch);
  }
  FinishRows(args, block, scratch);
}

// Blocks are dealt out in turn, all heads of the same rows first, because later
// rows see more tokens and cost more.
void ChunkAttentionBlocks(const ChunkAttention& args, int part, int parts) {
  const int rows = args.queries * args.group;
  // Large blocks convert less, small ones spread better.
  int block_rows = kBlockRowsMax;
  while (block_rows > kBatchRows &&
         (rows + block_rows - 1) / block_rows * args.kv_heads < 6 * parts) {
    block_rows /= 2;
  }
  int item = 0;
  for (int first = 0; first < rows; first += block_rows) {
    for (int head = 0; head < args.kv_heads; ++head) {
      if (item++ % parts != part) continue;
      const int n = std::min(block_rows, rows - first);
      const int padded = (n + kStripRows - 1) / kStripRows * kStripRows;
      const RowBlock block{head, first, n, padded};
      if (args.memory.type == KvType::kF16) {
        AttendBlock<KvType::kF16>(args, block);
      } else {
        AttendBlock<KvType::kBF16>(args, block);
      }
    }
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace HWY_NAMESPACE
}  // namespace forecache
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace forecache {

HWY_EXPORT(ChunkAttentionBlocks);

void ChunkAttentionCpu(const ChunkAttention& args, int part, int parts) {
  CheckArguments(args);
  FC_CHECK(part >= 0 && part < parts) << part << " of " << parts;
  HWY_DYNAMIC_DISPATCH(ChunkAttentionBlocks)(args, part, parts);
}

}  // namespace forecache
#endif  // HWY_ONCE
