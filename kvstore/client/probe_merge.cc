#include "kvstore/client/probe_merge.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "common/check.h"
#include "common/half.h"
#include "common/limits.h"
#include "common/log_add_exp.h"

namespace forecache {
namespace {

constexpr uint16_t kNoScore = 0xFC00;  // -infinity in f16
constexpr float kNothing = -std::numeric_limits<float>::infinity();

// Without branches and of a fixed length, so that the compiler makes vectors of
// it: a merge touches every block of the context, at every layer and token.
void ShiftLanes(float shift, uint16_t (&lanes)[kSegmentBlocks]) {
  // -infinity comes in as -65536, which is -infinity when it goes out.
  for (uint16_t& lane : lanes) {
    lane = NumberToF16(FiniteF16ToFloat(lane) + shift);
  }
}

}  // namespace

void ShiftScores(float shift, int count, uint16_t* scores) {
  for (int i = 0; i < count; i += kSegmentBlocks) {
    const int n = std::min(kSegmentBlocks, count - i);
    uint16_t lanes[kSegmentBlocks] = {};
    std::memcpy(lanes, scores + i, n * sizeof(uint16_t));
    ShiftLanes(shift, lanes);
    std::memcpy(scores + i, lanes, n * sizeof(uint16_t));
  }
}

ProbeMerge::ProbeMerge(const KvGeometry& geometry, int layer, int blocks)
    : rows_(geometry.kv_heads * geometry.group),
      layer_(layer),
      blocks_(blocks),
      scores_(size_t(rows_) * blocks, kNoScore) {}

void ProbeMerge::Add(const ProbeResult& part,
                     const std::vector<int>& segments) {
  FC_CHECK(part.blocks <= blocks_) << part.blocks << " of " << blocks_;
  for (int row = 0; row < rows_; ++row) {
    for (int segment : segments) {
      const int first = segment * kSegmentBlocks;
      const int count = std::min(kSegmentBlocks, part.blocks - first);
      if (count <= 0) break;
      const auto from = part.log_probability.subspan(
          size_t(row) * part.blocks + first, count);
      std::copy(from.begin(), from.end(),
                scores_.begin() + size_t(row) * blocks_ + first);
    }
  }
  part_lse_.emplace_back(part.lse.begin(), part.lse.end());
  part_segments_.push_back(segments);
}

ProbeResult ProbeMerge::Finish() {
  lse_.assign(rows_, kNothing);
  for (const std::vector<float>& part : part_lse_) {
    for (int row = 0; row < rows_; ++row) {
      lse_[row] = LogAddExp(lse_[row], part[row]);
    }
  }
  for (size_t p = 0; p < part_lse_.size(); ++p) {
    for (int row = 0; row < rows_; ++row) {
      if (part_lse_[p][row] == kNothing) continue;  // scored nothing
      const float shift = part_lse_[p][row] - lse_[row];
      uint16_t* scores = scores_.data() + size_t(row) * blocks_;
      for (int segment : part_segments_[p]) {
        const int first = segment * kSegmentBlocks;
        ShiftScores(shift, std::min(kSegmentBlocks, blocks_ - first),
                    scores + first);
      }
    }
  }
  return {layer_, blocks_, lse_, scores_};
}

void TailMerge::Add(const TailView& part) {
  const size_t rows = part.lse.size();
  const size_t d = part.key.size() / rows;
  if (lse_.empty()) {
    lse_.assign(rows, kNothing);
    sums_.assign(2 * part.key.size(), 0.0f);
  }
  FC_CHECK(lse_.size() == rows && sums_.size() == 2 * part.key.size());
  for (size_t row = 0; row < rows; ++row) {
    if (part.lse[row] == kNothing) continue;
    const float merged = LogAddExp(lse_[row], part.lse[row]);
    const float kept = std::exp(lse_[row] - merged);
    const float added = std::exp(part.lse[row] - merged);
    lse_[row] = merged;
    float* const to = sums_.data() + row * 2 * d;
    for (size_t c = 0; c < d; ++c) {
      to[c] = kept * to[c] + added * F16ToFloat(part.key[row * d + c]);
      to[d + c] =
          kept * to[d + c] + added * F16ToFloat(part.value[row * d + c]);
    }
  }
}

TailView TailMerge::Finish() {
  const size_t rows = lse_.size();
  if (rows == 0) return {};
  const size_t d = sums_.size() / 2 / rows;
  for (size_t row = 0; row < rows; ++row) {
    const float* const from = sums_.data() + row * 2 * d;
    for (size_t c = 0; c < d; ++c) key_.push_back(FloatToF16(from[c]));
    for (size_t c = 0; c < d; ++c) value_.push_back(FloatToF16(from[d + c]));
  }
  return {lse_, key_, value_};
}

}  // namespace forecache
