#include "kvstore/probe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "kernels/block_scores.h"

namespace forecache {
namespace {

constexpr float kNothing = -std::numeric_limits<float>::infinity();

// log(exp(a) + exp(b)); -infinity stands for no keys.
float LogAddExp(float a, float b) {
  if (a == kNothing) return b;
  if (b == kNothing) return a;
  float top = std::max(a, b);
  return top + std::log1p(std::exp(std::min(a, b) - top));
}

}  // namespace

size_t ProbeReplyBytes(const KvGeometry& geometry, int blocks) {
  size_t rows = size_t{1} * geometry.kv_heads * geometry.group;
  return rows * (sizeof(float) + size_t{2} * blocks);
}

absl::Status ValidateProbe(const KvGeometry& geometry,
                           const ProbeRequest& request) {
  if (request.layer < 0 || request.layer >= geometry.layers) {
    return absl::InvalidArgumentError(absl::StrCat(
        "layer is ", request.layer, ", must be below ", geometry.layers));
  }
  if (request.blocks < 1 || request.blocks > kContextBlocksMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "blocks is ", request.blocks, ", must be 1..", kContextBlocksMax));
  }
  size_t floats = size_t{1} * geometry.kv_heads * geometry.group *
                  geometry.head_dim;
  if (request.q.size() != floats) {
    return absl::InvalidArgumentError(absl::StrCat(
        "q has ", request.q.size(), " floats, must have ", floats));
  }
  if (!std::isfinite(request.scale)) {
    return absl::InvalidArgumentError("scale is not finite");
  }
  if (ProbeReplyBytes(geometry, request.blocks) > kMessageBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("blocks is ", request.blocks, ": the reply would pass ",
                     kMessageBytesMax, " bytes"));
  }
  return absl::OkStatus();
}

// Scores blocks [0, blocks) of one segment into block_max_ at `first_block`.
size_t Prober::ScoreSegment(const SegmentView& view,
                            const ProbeRequest& request, int kv_head,
                            int first_block, int blocks) {
  const KvGeometry& geometry = view.geometry();
  const float* q =
      request.q.data() + size_t{1} * kv_head * geometry.group *
                             geometry.head_dim;
  ByteView codes = view.CodePlane(request.layer, kv_head);
  // A code plane is scanned whole: for a part of a segment the keys serve.
  bool use_codes = source_ == ProbeSource::kCodes && !codes.empty() &&
                   blocks == kSegmentBlocks;
  if (use_codes) {
    CodeScores scores;
    scores.code_plane = codes.data();
    scores.head_dim = geometry.head_dim;
    scores.group = geometry.group;
    scores.q = q;
    scores.scale = request.scale;
    scores.block_max = block_max_.data() + first_block;
    scores.row_stride = request.blocks;
    scores.lse = segment_lse_.data();
    CodeScoresCpu(scores);
    MergeLse(kv_head, geometry.group);
    return geometry.PlaneBytes();
  }
  ByteView keys = view.KeyPlane(request.layer, kv_head);
  if (keys.empty()) return 0;
  size_t covered = 0;
  uint32_t present = view.Present(request.layer);
  for (int block = 0; block < blocks;) {
    if ((present >> block & 1) == 0) {
      ++block;
      continue;
    }
    int end = block;
    while (end < blocks && (present >> end & 1) != 0) ++end;
    ExactScores scores;
    scores.keys = keys.data() + block * geometry.PartBytes();
    scores.type = geometry.type;
    scores.tokens = (end - block) * kBlockTokens;
    scores.head_dim = geometry.head_dim;
    scores.group = geometry.group;
    scores.q = q;
    scores.scale = request.scale;
    scores.block_max = block_max_.data() + first_block + block;
    scores.row_stride = request.blocks;
    scores.lse = segment_lse_.data();
    ExactScoresCpu(scores);
    MergeLse(kv_head, geometry.group);
    covered += (end - block) * geometry.PartBytes();
    block = end;
  }
  return covered;
}

void Prober::MergeLse(int kv_head, int group) {
  for (int g = 0; g < group; ++g) {
    float& sum = lse_[kv_head * group + g];
    sum = LogAddExp(sum, segment_lse_[g]);
  }
}

size_t Prober::Probe(const SessionSnapshot& session,
                     const ProbeRequest& request, MutableBytes reply) {
  const KvGeometry& geometry = session.geometry;
  const int group = geometry.group;
  const size_t rows = size_t{1} * geometry.kv_heads * group;
  FC_CHECK(reply.size() == ProbeReplyBytes(geometry, request.blocks));
  lse_.assign(rows, kNothing);
  segment_lse_.resize(group);
  const int segments =
      std::min<int>(session.segments->size(),
                    (request.blocks + kSegmentBlocks - 1) / kSegmentBlocks);
  std::byte* out = reply.data() + rows * sizeof(float);
  size_t covered = 0;
  for (int head = 0; head < geometry.kv_heads; ++head) {
    block_max_.assign(size_t{1} * group * request.blocks, kNothing);
    for (int number = 0; number < segments; ++number) {
      const SegmentRef& ref = (*session.segments)[number];
      if (ref.view == nullptr) continue;
      int first = number * kSegmentBlocks;
      int blocks = std::min(kSegmentBlocks, request.blocks - first);
      covered += ScoreSegment(*ref.view, request, head, first, blocks);
    }
    for (int g = 0; g < group; ++g) {
      const float lse = lse_[head * group + g];
      const float* row = block_max_.data() + size_t{1} * g * request.blocks;
      for (int block = 0; block < request.blocks; ++block) {
        uint16_t bits =
            FloatToF16(lse == kNothing ? kNothing : row[block] - lse);
        std::memcpy(out, &bits, sizeof(bits));
        out += sizeof(bits);
      }
    }
  }
  std::memcpy(reply.data(), lse_.data(), rows * sizeof(float));
  return covered;
}

}  // namespace forecache
