#include "kvstore/correction.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/log_add_exp.h"
#include "kvstore/probe_rows.h"

namespace forecache {
namespace {

size_t Rows(const KvGeometry& geometry) {
  return size_t{1} * geometry.kv_heads * geometry.group;
}

// Of a reply: see wire::CorrectReplyBody.
size_t TailBytes(const KvGeometry& geometry) {
  return Rows(geometry) *
         (sizeof(float) + 2 * geometry.head_dim * sizeof(uint16_t));
}

// The next `count` items of a payload.
template <typename T>
std::span<const T> Take(ByteView* rest, size_t count) {
  std::span<const T> items{reinterpret_cast<const T*>(rest->data()), count};
  *rest = rest->subspan(items.size_bytes());
  return items;
}

absl::Status ValidateRange(const wire::CorrectBody& body) {
  if (body.first > body.end || body.end > body.blocks) {
    return absl::InvalidArgumentError(
        absl::StrCat("range is [", body.first, ", ", body.end,
                     "), must lie in [0, ", body.blocks, ")"));
  }
  if ((body.flags & ~wire::kCorrectFlagsKnown) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("flags are ", body.flags, ", of which some are unknown"));
  }
  if (!std::isfinite(body.threshold)) {
    return absl::InvalidArgumentError("threshold is not finite");
  }
  return absl::OkStatus();
}

absl::Status ValidateSlots(std::span<const uint32_t> slot_count,
                           size_t slots) {
  size_t sum = 0;
  for (uint32_t count : slot_count) {
    if (count > kCorrectionSlotsMax) {
      return absl::InvalidArgumentError(absl::StrCat(
          "slot_count is ", count, ", must be at most ", kCorrectionSlotsMax));
    }
    sum += count;
  }
  if (sum == slots) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "slots is ", slots, ", slot_count sums to ", sum));
}

}  // namespace

size_t CorrectPayloadBytes(const KvGeometry& geometry, size_t blocks,
                           size_t slots) {
  return geometry.kv_heads *
             (wire::ResidentWords(blocks) * sizeof(uint64_t) +
              sizeof(uint32_t)) +
         Rows(geometry) * (geometry.head_dim + 1) * sizeof(float) +
         slots * sizeof(wire::OfferedSlot);
}

size_t CorrectReplyBytes(const KvGeometry& geometry, int blocks,
                         bool wants_scores, bool wants_tail) {
  const size_t heads = geometry.kv_heads * sizeof(wire::CorrectedHead) +
                       (wants_tail ? TailBytes(geometry) : 0);
  if (wants_scores) return heads + ProbeReplyBytes(geometry, blocks);
  return heads + Rows(geometry) * sizeof(float);
}

absl::Status ParseCorrection(const KvGeometry& geometry,
                             const wire::CorrectBody& body, ByteView payload,
                             CorrectionRequest* request) {
  absl::Status status = ValidateRange(body);
  if (!status.ok()) return status;
  // Before sizes are computed from them.
  if (body.blocks > static_cast<uint32_t>(kContextBlocksMax) ||
      body.layer > static_cast<uint32_t>(kLayersMax)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "layer is ", body.layer, ", blocks is ", body.blocks));
  }
  const size_t wanted = CorrectPayloadBytes(geometry, body.blocks, body.slots);
  if (payload.size() != wanted) {
    return absl::InvalidArgumentError(absl::StrCat(
        "payload has ", payload.size(), " bytes, must have ", wanted));
  }
  FC_CHECK(reinterpret_cast<uintptr_t>(payload.data()) % 8 == 0);
  const size_t rows = Rows(geometry);
  request->resident = Take<uint64_t>(
      &payload, geometry.kv_heads * wire::ResidentWords(body.blocks));
  request->probe.q = Take<float>(&payload, rows * geometry.head_dim);
  request->local_lse = Take<float>(&payload, rows);
  request->slot_count = Take<uint32_t>(&payload, geometry.kv_heads);
  request->slots = Take<wire::OfferedSlot>(&payload, body.slots);
  request->probe.layer = static_cast<int>(body.layer);
  request->probe.blocks = static_cast<int>(body.blocks);
  request->probe.scale = body.scale;
  request->first = static_cast<int>(body.first);
  request->end = static_cast<int>(body.end);
  request->threshold = body.threshold;
  request->wants_scores = (body.flags & wire::kCorrectWantsScores) != 0;
  request->wants_tail = (body.flags & wire::kCorrectWantsTail) != 0;
  status = ValidateProbe(geometry, request->probe);
  if (!status.ok()) return status;
  if (CorrectReplyBytes(geometry, request->probe.blocks,
                        request->wants_scores,
                        request->wants_tail) > kMessageBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "blocks is ", body.blocks, ": the reply would pass ",
        kMessageBytesMax, " bytes"));
  }
  return ValidateSlots(request->slot_count, body.slots);
}

size_t Corrector::CorrectHead(const SessionSnapshot& session,
                              const CorrectionRequest& request, int kv_head,
                              MutableBytes reply,
                              std::vector<wire::FetchEntry>* picks) {
  const KvGeometry& geometry = session.geometry;
  const int blocks = request.probe.blocks;
  const size_t group = geometry.group;
  const size_t covered = prober_.ScanHead(session, request.probe, kv_head,
                                          request.wants_tail);
  const HeadScores& scores = prober_.scores();

  lse_.resize(group);
  for (size_t g = 0; g < group; ++g) {
    lse_[g] = LogAddExp(scores.lse[g], request.local_lse[kv_head * group + g]);
  }
  merged_.resize(scores.stride);
  MergeGroup(scores.block_max.data(), scores.stride, lse_, merged_.data());
  const size_t words = wire::ResidentWords(blocks);
  const double missing =
      ClearResident(request.resident.subspan(kv_head * words, words),
                    scores.stride, merged_.data());
  uint32_t chosen[kCorrectionSlotsMax];
  const BestBlocks best =
      PickBest(merged_.data(), request.first, request.end, request.threshold,
               std::span(chosen).first(request.slot_count[kv_head]));

  size_t slot = 0;
  for (int head = 0; head < kv_head; ++head) slot += request.slot_count[head];
  picks->clear();
  for (int i = 0; i < best.count; ++i, ++slot) {
    picks->push_back({chosen[i], static_cast<uint16_t>(kv_head),
                      static_cast<uint16_t>(request.probe.layer),
                      request.slots[slot].slot,
                      request.slots[slot].generation});
  }
  wire::CorrectedHead head;
  head.used = static_cast<uint32_t>(best.count);
  head.best_left = best.best_left;
  head.missing_mass = static_cast<float>(std::max(missing - best.picked, 0.0));
  std::byte* out = reply.data();
  std::memcpy(out + kv_head * sizeof(head), &head, sizeof(head));
  out += geometry.kv_heads * sizeof(head);
  std::memcpy(out + kv_head * group * sizeof(float), scores.lse.data(),
              group * sizeof(float));
  out += Rows(geometry) * sizeof(float);
  if (request.wants_tail) {
    WriteTail(session, request, kv_head, std::span(chosen).first(best.count),
              out);
    out += TailBytes(geometry);
  }
  if (request.wants_scores) {
    WriteHeadScores(scores, blocks,
                    out + kv_head * group * blocks * sizeof(uint16_t));
  }
  return covered;
}

void Corrector::WriteTail(const SessionSnapshot& session,
                          const CorrectionRequest& request, int kv_head,
                          std::span<const uint32_t> pushed, std::byte* out) {
  const KvGeometry& geometry = session.geometry;
  const size_t words = wire::ResidentWords(request.probe.blocks);
  const auto resident = request.resident.subspan(kv_head * words, words);
  attended_.assign(resident.begin(), resident.end());
  for (const uint32_t block : pushed) {
    attended_[block / 64] |= uint64_t{1} << (block % 64);
  }
  tail_.Attend(session, request.probe, kv_head, prober_.scores(), attended_);
  const size_t first = size_t{1} * kv_head * geometry.group;
  const std::span<const float> lse = tail_.lse();
  std::memcpy(out + first * sizeof(float), lse.data(), lse.size_bytes());
  out += Rows(geometry) * sizeof(float);
  for (const std::span<const float> part : {tail_.keys(), tail_.values()}) {
    std::byte* to = out + first * geometry.head_dim * sizeof(uint16_t);
    for (const float x : part) {
      const uint16_t bits = FloatToF16(x);
      std::memcpy(to, &bits, sizeof(bits));
      to += sizeof(bits);
    }
    out += Rows(geometry) * geometry.head_dim * sizeof(uint16_t);
  }
}

}  // namespace forecache
