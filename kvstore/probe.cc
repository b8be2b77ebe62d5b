#include "kvstore/probe.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/log_add_exp.h"
#include "kernels/block_scores.h"
#include "kernels/code_scan.h"
#include "kvstore/probe_rows.h"

namespace forecache {
namespace {

const float* QueryOf(const KvGeometry& geometry, const ProbeRequest& request,
                     int kv_head) {
  return request.q.data() +
         size_t{1} * kv_head * geometry.group * geometry.head_dim;
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

void Prober::ScanCodes(const KvGeometry& geometry,
                       const ProbeRequest& request, int kv_head) {
  if (planes_.empty()) return;
  CodeScan scan;
  scan.kind = kind_;
  scan.head_dim = geometry.head_dim;
  scan.group = geometry.group;
  scan.planes = planes_.data();
  scan.plane_count = static_cast<int>(planes_.size());
  scan.q = QueryOf(geometry, request, kv_head);
  scan.scale = request.scale;
  scan.block_max = scores_.block_max.data() + first_ * kSegmentBlocks;
  scan.row_stride = scores_.stride;
  scan.lse = scan_lse_.data();
  if (!scores_.segments_with_logits.empty()) {
    scan.logits = scores_.logits.data() + size_t(first_) * kSegmentTokens;
    scan.logit_stride = scores_.logit_stride();
  }
  ScanCodesCpu(scan);
  MergeScan();
  planes_.clear();
}

size_t Prober::ScanKeys(const SegmentView& view, const ProbeRequest& request,
                        int kv_head, int number, int blocks) {
  const KvGeometry& geometry = view.geometry();
  float* block_max = scores_.block_max.data() + number * kSegmentBlocks;
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
    scores.q = QueryOf(geometry, request, kv_head);
    scores.scale = request.scale;
    scores.block_max = block_max + block;
    scores.row_stride = scores_.stride;
    scores.lse = scan_lse_.data();
    ExactScoresCpu(scores);
    MergeScan();
    covered += (end - block) * geometry.PartBytes();
    block = end;
  }
  return covered;
}

void Prober::MergeScan() {
  for (size_t g = 0; g < scan_lse_.size(); ++g) {
    scores_.lse[g] = LogAddExp(scores_.lse[g], scan_lse_[g]);
  }
}

size_t Prober::ScanHead(const SessionSnapshot& session,
                        const ProbeRequest& request, int kv_head,
                        bool wants_logits) {
  const KvGeometry& geometry = session.geometry;
  const int segments =
      std::min<int>(session.segments->size(),
                    (request.blocks + kSegmentBlocks - 1) / kSegmentBlocks);
  scores_.stride = RowStride(request.blocks);
  scores_.block_max.assign(geometry.group * scores_.stride, kNoScore);
  scores_.lse.assign(geometry.group, kNoScore);
  scan_lse_.resize(geometry.group);
  scores_.segments_with_logits.clear();
  if (wants_logits) {
    scores_.logits.resize(geometry.group * scores_.logit_stride());
  }
  planes_.clear();
  size_t covered = 0;
  for (int number = 0; number < segments; ++number) {
    const SegmentView* view = (*session.segments)[number].view.get();
    const int blocks =
        std::min(kSegmentBlocks, request.blocks - number * kSegmentBlocks);
    // A code plane is scanned whole: for a part of a segment the keys serve.
    ByteView codes;
    if (source_ == ProbeSource::kCodes && view != nullptr &&
        blocks == kSegmentBlocks) {
      codes = view->CodePlane(request.layer, kv_head);
    }
    if (!codes.empty()) {
      if (view->code_kind() != kind_) ScanCodes(geometry, request, kv_head);
      if (planes_.empty()) first_ = number;
      kind_ = view->code_kind();
      planes_.push_back(codes.data());
      if (wants_logits) scores_.segments_with_logits.push_back(number);
      covered += geometry.PlaneBytes();
      continue;
    }
    ScanCodes(geometry, request, kv_head);
    if (view == nullptr) continue;
    covered += ScanKeys(*view, request, kv_head, number, blocks);
  }
  ScanCodes(geometry, request, kv_head);
  return covered;
}

void WriteHeadScores(const HeadScores& scores, int blocks, std::byte* out) {
  for (size_t g = 0; g < scores.lse.size(); ++g) {
    WriteLogProbabilities(scores.block_max.data() + g * scores.stride,
                          scores.lse[g], blocks,
                          out + g * blocks * sizeof(uint16_t));
  }
}

size_t Prober::ProbeHead(const SessionSnapshot& session,
                         const ProbeRequest& request, int kv_head,
                         MutableBytes reply) {
  const KvGeometry& geometry = session.geometry;
  const size_t lse_bytes = geometry.group * sizeof(float);
  const size_t row_bytes =
      size_t{1} * geometry.group * request.blocks * sizeof(uint16_t);
  FC_CHECK(reply.size() == ProbeReplyBytes(geometry, request.blocks));
  const size_t covered = ScanHead(session, request, kv_head);
  std::memcpy(reply.data() + kv_head * lse_bytes, scores_.lse.data(),
              lse_bytes);
  WriteHeadScores(scores_, request.blocks,
                  reply.data() + geometry.kv_heads * lse_bytes +
                      kv_head * row_bytes);
  return covered;
}

}  // namespace forecache
