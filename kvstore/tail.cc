#include "kvstore/tail.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "common/check.h"
#include "common/limits.h"
#include "kernels/attention.h"
#include "kernels/value_plane.h"

namespace forecache {
namespace {

constexpr float kNone = -std::numeric_limits<float>::infinity();
constexpr size_t kLineBytes = 64;

}  // namespace

uint32_t TailScanner::LeftOut(std::span<const uint64_t> attended, int number,
                              int blocks) const {
  const size_t first = size_t(number) * kSegmentBlocks;
  const uint64_t word = attended[first / 64] >> first % 64;
  return ~static_cast<uint32_t>(word) & ((1u << blocks) - 1);
}

void TailScanner::Attend(const SessionSnapshot& session,
                         const ProbeRequest& request, int kv_head,
                         const HeadScores& scores,
                         std::span<const uint64_t> attended) {
  const KvGeometry& geometry = session.geometry;
  const size_t group = geometry.group;
  const size_t d = geometry.head_dim;
  mass_.assign(group, 0.0f);
  keys_.assign(group * d, 0.0f);
  values_.assign(group * d, 0.0f);
  lse_.assign(group, kNone);
  if (std::ranges::any_of(scores.lse, [](float x) { return x == kNone; })) {
    return;  // nothing was scored
  }
  const int segments =
      std::min<int>(session.segments->size(),
                    (request.blocks + kSegmentBlocks - 1) / kSegmentBlocks);
  auto with_logits = scores.segments_with_logits.begin();
  for (int number = 0; number < segments; ++number) {
    const bool has_logits = with_logits != scores.segments_with_logits.end() &&
                            *with_logits == number;
    if (has_logits) ++with_logits;
    const SegmentView* view = (*session.segments)[number].view.get();
    const uint32_t left_out =
        LeftOut(attended, number,
                std::min(kSegmentBlocks,
                         request.blocks - number * kSegmentBlocks));
    if (view == nullptr || left_out == 0) continue;
    const ByteView plane = view->ValuePlane(request.layer, kv_head);
    if (has_logits && !plane.empty()) {
      ScanValuesCpu({.head_dim = geometry.head_dim,
                     .group = geometry.group,
                     .plane = plane.data(),
                     .code_plane =
                         view->code_kind() == CodeKind::k4Bit
                             ? view->CodePlane(request.layer, kv_head).data()
                             : nullptr,
                     .blocks = left_out,
                     .logits = scores.logits.data() +
                               size_t(number) * kSegmentTokens,
                     .logit_stride = scores.logit_stride(),
                     .block_max = scores.block_max.data() +
                                  size_t(number) * kSegmentBlocks,
                     .row_stride = scores.stride,
                     .lse = scores.lse.data(),
                     .mass = mass_.data(),
                     .keys = keys_.data(),
                     .values = values_.data()});
    } else {
      AttendBlocks(*view, request, kv_head, scores,
                   left_out & view->Present(request.layer));
    }
  }
  for (size_t g = 0; g < group; ++g) {
    if (!(mass_[g] > 0)) continue;
    lse_[g] = scores.lse[g] + std::log(mass_[g]);
    const float share = 1.0f / mass_[g];
    for (size_t c = g * d; c < (g + 1) * d; ++c) {
      keys_[c] *= share;
      values_[c] *= share;
    }
  }
}

void TailScanner::AttendBlocks(const SegmentView& view,
                               const ProbeRequest& request, int kv_head,
                               const HeadScores& scores, uint32_t blocks) {
  const KvGeometry& geometry = view.geometry();
  const size_t part = geometry.PartBytes();
  const size_t slot = (2 * part + kLineBytes - 1) / kLineBytes * kLineBytes;
  blocks_.resize((slot * kSegmentBlocks + kLineBytes) / sizeof(uint64_t));
  auto* const base = reinterpret_cast<std::byte*>(
      (reinterpret_cast<uintptr_t>(blocks_.data()) + kLineBytes - 1) /
      kLineBytes * kLineBytes);
  reads_.clear();
  for (; blocks != 0; blocks &= blocks - 1) {
    const int block = std::countr_zero(blocks);
    if (view.Place(request.layer, kv_head, block).k == nullptr) continue;
    std::byte* const at = base + reads_.size() * slot;
    reads_.push_back({kv_head, block, at, at + part});
  }
  view.Read(request.layer, reads_);
  int32_t slots[kSegmentBlocks];
  PageTable table{slots, 0, kPageTokens};
  for (size_t i = 0; i < reads_.size(); ++i) {
    if (reads_[i].status != wire::BlockStatus::kOk) continue;
    slots[table.pages++] = static_cast<int32_t>(i);
  }
  if (table.pages == 0) return;
  const size_t rows = geometry.group;
  const size_t d = geometry.head_dim;
  part_.resize(rows * d);
  part_lse_.resize(rows);
  // First for the values, then for the keys in their place.
  for (const bool for_keys : {false, true}) {
    DecodeAttentionCpu({.memory = {base, slot, for_keys ? 0 : part,
                                   geometry.type, geometry.head_dim},
                        .kv_heads = 1,
                        .group = geometry.group,
                        .q = request.q.data() + size_t(kv_head) * rows * d,
                        .scale = request.scale,
                        .tables = &table,
                        .out = part_.data(),
                        .lse = part_lse_.data()});
    for (size_t g = 0; g < rows; ++g) {
      const float mass = std::exp(part_lse_[g] - scores.lse[g]);
      if (!for_keys) mass_[g] += mass;
      float* const to = (for_keys ? keys_ : values_).data() + g * d;
      for (size_t c = 0; c < d; ++c) to[c] += mass * part_[g * d + c];
    }
  }
}

}  // namespace forecache
