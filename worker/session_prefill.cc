// The part of the Session that computes the prompt.

#include <algorithm>

#include "common/half.h"
#include "common/limits.h"
#include "common/status.h"
#include "worker/session.h"

namespace forecache {

absl::StatusOr<std::span<const float>> Session::Prefill(
    const Progress& progress) {
  std::span<const float> logits;
  int position = opened_.cached_tokens;
  progress(position, prompt_tokens_, position);
  while (position < prompt_tokens_) {
    const int n = std::min(kPrefillChunkTokens, prompt_tokens_ - position);
    FC_ASSIGN_OR_RETURN(logits, PrefillChunk(position, n));
    position += n;
    const int whole = position / kBlockTokens;
    for (int layer = 0; layer < parts_.geometry().layers; ++layer) {
      FC_RETURN_IF_ERROR(write_behind_.Await(layer, whole));
    }
    FC_RETURN_IF_ERROR(SealReady());
    progress(position, prompt_tokens_, opened_.cached_tokens);
  }
  if (prefetch_.auto_missed == 0) stream_.reset();  // staging is free again
  FC_RETURN_IF_ERROR(LoadFirstBlocks());
  return logits;
}

absl::StatusOr<std::span<const float>> Session::PrefillChunk(int position,
                                                             int n) {
  const int layers = parts_.geometry().layers;
  const int before = position / kBlockTokens;
  const bool is_last = position + n == prompt_tokens_;
  stream_->Start(0, before);
  const std::span<const int32_t> chunk(tokens_.data() + position, n);
  FC_ASSIGN_OR_RETURN(LayerQkv qkv, parts_.model->Begin(chunk, position));
  for (int layer = 0;; ++layer) {
    if (layer + 1 < layers) stream_->Start(layer + 1, before);
    FC_RETURN_IF_ERROR(stream_->Await(layer));
    FC_ASSIGN_OR_RETURN(std::span<const float> attention,
                        AttendChunk(layer, position, n, qkv));
    if (layer + 1 == layers) {
      return parts_.model->Finish(
          attention, is_last ? LogitRows::kLast : LogitRows::kNone);
    }
    FC_ASSIGN_OR_RETURN(qkv, parts_.model->Next(attention));
  }
}

absl::StatusOr<std::span<const float>> Session::AttendChunk(
    int layer, int position, int n, const LayerQkv& qkv) {
  const KvGeometry& geometry = parts_.geometry();
  const size_t row = lse_.size() * geometry.head_dim;
  stream_->Write(layer, position, n, qkv.k.data(), qkv.v.data());
  attention_.resize(n * row);
  const ChunkAttention args{
      .memory = parts_.staging->memory(),
      .kv_heads = geometry.kv_heads,
      .group = geometry.group,
      .queries = n,
      .first_position = position,
      .q = qkv.q.data(),
      .scale = scale_,
      .tables = stream_->Tables(layer, position + n).data(),
      .out = attention_.data()};
  parts_.crew->Run([&](int part, int parts) {
    ChunkAttentionCpu(args, part, parts);
  });

  const int first = position / kBlockTokens;
  const int whole = (position + n) / kBlockTokens;
  if (whole > first) {
    std::vector<int32_t> slots;
    for (int head = 0; head < geometry.kv_heads; ++head) {
      for (int block = first; block < whole; ++block) {
        slots.push_back(stream_->Slot(layer, head, block));
      }
    }
    write_behind_.Put(layer, first, whole - first, parts_.staging,
                      std::move(slots));
  }
  if (position + n == prompt_tokens_) {
    if (prefetcher_->WantsKeys()) ShowPromptKeys(layer);
    std::copy_n(qkv.q.data() + (n - 1) * row, row,
                last_queries_.data() + layer * row);
    const int rest = (position + n) % kBlockTokens;
    if (rest > 0) {
      std::vector<int32_t> slots;
      for (int head = 0; head < geometry.kv_heads; ++head) {
        slots.push_back(stream_->Slot(layer, head, whole));
      }
      FC_RETURN_IF_ERROR(cache_.AdoptOpenBlock(layer, whole, rest,
                                               *parts_.staging, slots));
    }
  }
  return std::span<const float>(attention_);
}

// The staging buffer holds the whole prompt's layer now.
void Session::ShowPromptKeys(int layer) {
  const KvGeometry& geometry = parts_.geometry();
  const auto& tables = stream_->Tables(layer, prompt_tokens_);
  const int blocks = (prompt_tokens_ + kBlockTokens - 1) / kBlockTokens;
  std::vector<float> keys;
  for (int head = 0; head < geometry.kv_heads; ++head) {
    for (int block = 0; block < blocks; ++block) {
      const int tokens =
          std::min(kBlockTokens, prompt_tokens_ - block * kBlockTokens);
      const auto* part = reinterpret_cast<const uint16_t*>(
          parts_.staging->ReadBlock(tables[head].slots[block]).data());
      keys.resize(size_t{1} * tokens * geometry.head_dim);
      for (size_t i = 0; i < keys.size(); ++i) {
        keys[i] = KvToFloat(geometry.type, part[i]);
      }
      prefetcher_->ObservePromptKeys(layer, head, block, keys);
    }
  }
}

absl::Status Session::LoadFirstBlocks() {
  const size_t row = lse_.size() * parts_.geometry().head_dim;
  for (int layer = 0; layer < parts_.geometry().layers; ++layer) {
    const float* query = last_queries_.data() + layer * row;
    cache_.BuildTables(layer, &tables_);
    prefetcher_->Advance(layer, prompt_tokens_ - 1, {query, row},
                         ScoreLocal(tables_, layer, prompt_tokens_ - 1,
                                    query));
  }
  return prefetcher_->AwaitFirstBlocks();
}

}  // namespace forecache
