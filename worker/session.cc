#include "worker/session.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/status.h"
#include "kernels/attention.h"

namespace forecache {
namespace {

int BlocksOf(int tokens) {
  return (tokens + kBlockTokens - 1) / kBlockTokens;
}

absl::Status CheckLengths(const WorkerParts& parts,
                          const SessionOptions& options, int prompt,
                          int max_tokens) {
  const int limit = parts.model->config().context_tokens;
  if (prompt == 0) {
    return absl::InvalidArgumentError("prompt: has no tokens");
  }
  if (prompt + max_tokens > limit) {
    return absl::InvalidArgumentError(absl::StrCat(
        "prompt: ", prompt, " tokens and max_tokens ", max_tokens,
        " pass the model's context of ", limit, " tokens"));
  }
  const Budget& budget = options.prefetch.budget;
  const int blocks = std::min(budget.blocks, BlocksOf(prompt + max_tokens));
  const int64_t slots = int64_t{blocks} * parts.geometry().layers *
                        parts.geometry().kv_heads;
  if (slots > parts.arena->slots()) {
    const size_t bytes = parts.geometry().BlockBytes();
    return absl::ResourceExhaustedError(absl::StrCat(
        "budget_blocks: ", blocks, " blocks of each layer and KV head need ",
        (slots * bytes + (1 << 20) - 1) >> 20, " MiB of arena, --arena-mib is ",
        (parts.arena->slots() * bytes) >> 20));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Session>> Session::Open(
    const WorkerParts& parts, const SessionOptions& options,
    std::vector<int32_t> prompt, int max_tokens) {
  FC_RETURN_IF_ERROR(CheckLengths(
      parts, options, static_cast<int>(prompt.size()), max_tokens));
  const KvGeometry& geometry = parts.geometry();
  FC_ASSIGN_OR_RETURN(
      std::unique_ptr<Predictor> predictor,
      MakePredictor(
          {.name = options.predictor,
           .shape = {geometry.layers, geometry.kv_heads, geometry.group,
                     geometry.head_dim},
           .ema_alpha = options.ema_alpha,
           .adaptive = options.probe_share > 0,
           .adaptive_share = options.probe_share > 0 ? options.probe_share
                                                     : 1.0f}));
  SessionOptions spread = options;
  const BudgetProfile& profile = BuiltinBudgetProfile();
  const bool fits = options.profiled_budget &&
                    profile.layers == geometry.layers &&
                    profile.kv_heads == geometry.kv_heads;
  const int context = BlocksOf(static_cast<int>(prompt.size()));
  SpreadBudget(geometry, context, fits ? &profile : nullptr,
               &spread.prefetch.budget);
  FC_ASSIGN_OR_RETURN(const OpenedSession opened,
                      parts.control->OpenSession(parts.fingerprint, prompt,
                                                 options.request_id,
                                                 options.shared));
  return std::unique_ptr<Session>(new Session(
      parts, spread, std::move(prompt), opened, std::move(predictor)));
}

Session::Session(const WorkerParts& parts, const SessionOptions& options,
                 std::vector<int32_t> prompt, const OpenedSession& opened,
                 std::unique_ptr<Predictor> predictor)
    : parts_(parts),
      prefetch_(options.prefetch),
      opened_(opened),
      scale_(1.0f / std::sqrt(float(parts.geometry().head_dim))),
      prompt_tokens_(static_cast<int>(prompt.size())),
      tokens_(std::move(prompt)),
      sealed_segments_(opened.cached_tokens / kSegmentTokens),
      cache_(parts.geometry(), parts.arena),
      write_behind_(opened.handle, opened.cached_tokens / kBlockTokens,
                    parts.data_plane, &fault_),
      estimates_(parts.geometry().layers) {
  prefetcher_ = std::make_unique<Prefetcher>(
      opened.handle, options.prefetch, scale_, std::move(predictor), &cache_,
      parts.data_plane, &fault_);
  stream_ = std::make_unique<PrefillStream>(opened.handle, parts.staging,
                                            parts.data_plane, &fault_);
  const KvGeometry& geometry = parts.geometry();
  lse_.resize(size_t(geometry.kv_heads) * geometry.group);
  last_queries_.resize(lse_.size() * geometry.head_dim * geometry.layers);
}

Session::~Session() {
  stream_.reset();
  prefetcher_.reset();
  const absl::Status closed = parts_.control->CloseSession(opened_.handle);
  if (!closed.ok()) {  // the store's idle timeout takes care of it
    LogWarning("session not closed", {{"error", closed.ToString()}});
  }
}

absl::StatusOr<std::span<const float>> Session::Decode(int32_t token) {
  const int layers = parts_.geometry().layers;
  const int position = context_tokens();
  FC_ASSIGN_OR_RETURN(LayerQkv qkv,
                      parts_.model->Begin({&token, 1}, position));
  tokens_.push_back(token);
  if (context_tokens() % kSegmentTokens == kBlockTokens) {
    parts_.control->Extend(opened_.handle, tokens_);
  }
  std::span<const float> logits;
  const uint64_t exact_before = exact_layers_;
  for (int layer = 0;; ++layer) {
    FC_ASSIGN_OR_RETURN(std::span<const float> attention,
                        AttendToken(layer, position, qkv));
    if (layer + 1 == layers) {
      FC_ASSIGN_OR_RETURN(logits,
                          parts_.model->Finish(attention, LogitRows::kLast));
      break;
    }
    FC_ASSIGN_OR_RETURN(qkv, parts_.model->Next(attention));
  }
  if (exact_layers_ > exact_before) ++exact_tokens_;
  FC_RETURN_IF_ERROR(SealReady());
  return logits;
}

absl::StatusOr<std::span<const float>> Session::AttendToken(
    int layer, int position, const LayerQkv& qkv) {
  CorrectAhead(layer, position, qkv);
  FC_RETURN_IF_ERROR(AwaitWriteBehind(layer, position));
  FC_RETURN_IF_ERROR(prefetcher_->AwaitLayer(layer));
  FC_RETURN_IF_ERROR(
      cache_.Append(layer, position, qkv.k.data(), qkv.v.data()));
  cache_.BuildTables(layer, &tables_);
  AttendedScores attended = AttendResident(qkv);
  LocalScores local =
      ScoreLocal(tables_, layer, position, qkv.q.data());
  if (prefetcher_->IsUnsure(layer)) {
    FC_RETURN_IF_ERROR(AttendStored(layer, qkv, local));
  } else if (const auto tail = prefetcher_->TakeTail(layer)) {
    tail->Add(qkv.q, scale_, attention_, lse_);
  }
  if (!attended.heads.empty()) attended.lse_with_tail = lse_;
  if (position % kBlockTokens == kBlockTokens - 1) {
    write_behind_.Put(layer, position / kBlockTokens, 1, parts_.arena,
                      cache_.CloseOpenBlock(layer));
  }
  prefetcher_->Advance(layer, position, qkv.q, std::move(local),
                       std::move(attended),
                       prefetcher_->WantsKeys() ? qkv.k
                                                : std::span<const float>());
  return std::span<const float>(attention_);
}

// Attention over the blocks of tables_, into attention_ and lse_.
AttendedScores Session::AttendResident(const LayerQkv& qkv) {
  const KvGeometry& geometry = parts_.geometry();
  attention_.resize(lse_.size() * geometry.head_dim);
  AttendedScores attended;
  std::vector<float*> page_max;
  if (prefetcher_->WantsAttended()) {
    for (int head = 0; head < geometry.kv_heads; ++head) {
      const std::vector<int32_t>& blocks = tables_.blocks[head];
      attended.heads.push_back(
          {blocks, std::vector<float>(geometry.group * blocks.size())});
      page_max.push_back(attended.heads.back().block_max.data());
    }
  }
  DecodeAttentionCpu({.memory = parts_.arena->memory(),
                      .kv_heads = geometry.kv_heads,
                      .group = geometry.group,
                      .q = qkv.q.data(),
                      .scale = scale_,
                      .tables = tables_.tables.data(),
                      .out = attention_.data(),
                      .lse = lse_.data(),
                      .page_max = page_max.empty() ? nullptr
                                                   : page_max.data()});
  attended.lse = lse_;
  return attended;
}

// Instead of attention over what is resident, over everything: what the store
// has, through the staging buffer, and what is local, as ScoreLocal attended.
absl::Status Session::AttendStored(int layer, const LayerQkv& qkv,
                                   const LocalScores& local) {
  const KvGeometry& geometry = parts_.geometry();
  const int stored = local.first_block;
  stream_->Start(layer, stored);
  FC_RETURN_IF_ERROR(stream_->Await(layer));
  DecodeAttentionCpu(
      {.memory = parts_.staging->memory(),
       .kv_heads = geometry.kv_heads,
       .group = geometry.group,
       .q = qkv.q.data(),
       .scale = scale_,
       .tables = stream_->Tables(layer, stored * kBlockTokens).data(),
       .out = attention_.data(),
       .lse = lse_.data()});
  MergeAttention(static_cast<int>(lse_.size()), geometry.head_dim,
                 attention_.data(), lse_.data(), local_attention_.data(),
                 local.lse.data());
  ++exact_layers_;
  return absl::OkStatus();
}

void Session::CorrectAhead(int layer, int position, const LayerQkv& qkv) {
  if (prefetcher_->CorrectedBlocks() == 0) return;
  // Without an estimate that is worth it, a layer waits for its own query.
  const bool was_ahead = estimates_.Meet(layer, qkv.q);
  if (prefetch_.oracle || !was_ahead) CorrectLayer(layer, position, qkv.q);
  if (prefetch_.oracle || qkv.q_ahead.empty()) return;
  const int ahead = layer + kQueryAheadLayers;
  if (estimates_.Take(ahead, qkv.q_ahead)) {
    CorrectLayer(ahead, position, qkv.q_ahead);
  }
}

void Session::CorrectLayer(int layer, int position,
                           std::span<const float> query) {
  cache_.BuildTables(layer, &ahead_tables_);
  prefetcher_->Correct(
      layer, position, query,
      ScoreLocal(ahead_tables_, layer, position - 1, query.data()));
}

// A block that the store has not acknowledged stays resident.  When it is
// about to leave the recent window, the answer waits for the store.
absl::Status Session::AwaitWriteBehind(int layer, int position) {
  const int now = position / kBlockTokens;
  return write_behind_.Await(layer, now - prefetch_.budget.recent);
}

// Scores of the blocks that the store cannot score: the ones it has not
// acknowledged, which are at the end of the page tables.
LocalScores Session::ScoreLocal(const LayerTables& resident, int layer,
                                int position, const float* query) {
  const KvGeometry& geometry = parts_.geometry();
  LocalScores local;
  local.first_block = write_behind_.Acknowledged(layer);
  local.blocks =
      std::max(position / kBlockTokens + 1 - local.first_block, 0);
  local.lse.assign(lse_.size(), -std::numeric_limits<float>::infinity());
  local.block_max.resize(lse_.size() * local.blocks);
  if (local.blocks == 0) return local;
  std::vector<PageTable> tables = resident.tables;
  std::vector<float*> block_max;
  for (int head = 0; head < geometry.kv_heads; ++head) {
    const std::vector<int32_t>& blocks = resident.blocks[head];
    const int skip = static_cast<int>(
        std::lower_bound(blocks.begin(), blocks.end(), local.first_block) -
        blocks.begin());
    FC_CHECK(tables[head].pages - skip == local.blocks)
        << "layer " << layer << ": " << tables[head].pages - skip
        << " local blocks resident of " << local.blocks;
    tables[head].slots += skip;
    tables[head].pages -= skip;
    block_max.push_back(local.block_max.data() +
                        size_t(head) * geometry.group * local.blocks);
  }
  local_attention_.resize(lse_.size() * geometry.head_dim);
  DecodeAttentionCpu({.memory = parts_.arena->memory(),
                      .kv_heads = geometry.kv_heads,
                      .group = geometry.group,
                      .q = query,
                      .scale = scale_,
                      .tables = tables.data(),
                      .out = local_attention_.data(),
                      .lse = local.lse.data(),
                      .page_max = block_max.data()});
  return local;
}

absl::Status Session::SealReady() {
  for (;;) {
    const int end = (sealed_segments_ + 1) * kSegmentTokens;
    if (end > context_tokens()) return absl::OkStatus();
    for (int layer = 0; layer < parts_.geometry().layers; ++layer) {
      if (write_behind_.Acknowledged(layer) < end / kBlockTokens) {
        return absl::OkStatus();
      }
    }
    FC_RETURN_IF_ERROR(parts_.control->SealSegment(
        opened_.handle, sealed_segments_,
        std::span<const int32_t>(tokens_).first(end)));
    ++sealed_segments_;
  }
}

SessionMemory Session::memory() const {
  return {.resident = cache_.peak_bytes(),
          .history = prefetcher_->history_bytes(),
          .tail = prefetcher_->tail_bytes(),
          .tables = cache_.table_bytes() + prefetcher_->gate_bytes() +
                    tokens_.capacity() * sizeof(int32_t)};
}

}  // namespace forecache
