// Code planes of either kind, and the scan of a context's planes by a query.
//
// A code plane is a compact copy of the keys of one segment (256 tokens, full)
// of one (layer, KV head).  A probe scans the planes of a context and gets the
// largest logit of every block and the log-sum-exp over all their keys.
//
//   k4Bit         k[t][c] ~ low[c] + scale[c] * code[t][c], codes of 4 bits.
//                 A quarter of the bytes of 16-bit keys, and exact enough to
//                 stand in for them.
//   k2BitRotated  k[t] ~ mean + norm[t] * R' level[t], with R a fixed rotation
//                 (signs, then Hadamard) and levels -3, -1, 1, 3.  An eighth of
//                 the bytes.  A rotated key's channels are alike, so that one
//                 norm a key serves them all, and a query is made ready once
//                 for all planes.  Scans take half the variance of a logit's
//                 noise off it (kernels/code_plane.h: kRotatedNoise), so that
//                 log-sum-exps are right on average.
//
// The bytes of both are in kernels/code_plane.h; docs/CODES.md says what each
// is worth on real keys, and what it costs.
#ifndef FORECACHE_KERNELS_CODE_SCAN_H_
#define FORECACHE_KERNELS_CODE_SCAN_H_

#include <cstddef>
#include <cstdint>

#include "common/half.h"
#include "kernels/block_scores.h"

namespace forecache {

// Stored planes name their kind by this number: never reuse one.
enum class CodeKind : uint8_t {
  k4Bit = 1,
  k2BitRotated = 2,
};

// "4-bit", "2-bit rotated".
const char* CodeKindName(CodeKind kind);

size_t CodePlaneBytes(CodeKind kind, int head_dim);

// Makes the code plane of 256 keys [256][head_dim].  Deterministic: the same
// keys give the same bytes on every CPU.  `code_plane` is aligned to 64.
// REQUIRES: the keys are finite.
void EncodeCodePlaneRef(CodeKind kind, const std::byte* keys, KvType type,
                        int head_dim, std::byte* code_plane);
void EncodeCodePlane(CodeKind kind, const std::byte* keys, KvType type,
                     int head_dim, std::byte* code_plane);

// The keys that a code plane stands for, f32 [256][head_dim]: for tests.
void DecodeCodePlane(CodeKind kind, const std::byte* code_plane, int head_dim,
                     float* keys);

// One query group against the planes of a context, in order.
//
// The cpu backend rounds queries to int8 (kernels/block_scores.h has the bound
// for k4Bit; for k2BitRotated a head's step is about a sixth of the deviation
// of its rotated query), and all instruction sets compute the same integers.
// Its log-sum-exp is within 0.011 of that of the rounded logits, and leaves out
// blocks whose largest logit is 20 below the largest one.
struct CodeScan {
  CodeKind kind = CodeKind::k4Bit;
  int head_dim = 0;
  int group = 0;                           // query heads
  const std::byte* const* planes = nullptr;  // each aligned to 64
  int plane_count = 0;
  const float* q = nullptr;                // [group][head_dim], unscaled
  float scale = 0;
  // [group] rows, `row_stride` floats apart: 16 blocks of planes[0], 16 of
  // planes[1], ...
  float* block_max = nullptr;
  size_t row_stride = 0;
  // [group] rows, `logit_stride` floats apart: each token's logit.  Null where
  // none is needed.
  float* logits = nullptr;
  size_t logit_stride = 0;
  // [group], over all the planes; -inf without planes.  Null where it is not
  // needed: that saves 10 to 15 % of the time.
  float* lse = nullptr;
};

// Threads: safe to call from any thread on distinct outputs.
void ScanCodesRef(const CodeScan& args);
void ScanCodesCpu(const CodeScan& args);

}  // namespace forecache

#endif  // FORECACHE_KERNELS_CODE_SCAN_H_
