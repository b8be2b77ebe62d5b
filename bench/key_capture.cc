#include "bench/key_capture.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "common/check.h"
#include "kernels/attention.h"
#include "kernels/code_scan.h"

namespace forecache {
namespace {

constexpr int kChunkTokens = 512;

// One layer's keys and values, as slots of 16 tokens in token order.
//
// Threads: one thread at a time.
class LayerKv {
 public:
  LayerKv(const ModelConfig& config, int tokens)
      : config_(config), pages_((tokens + kPageTokens - 1) / kPageTokens) {
    const size_t part = size_t{kPageTokens} * config.head_dim * kKvElementBytes;
    memory_.v_offset = part;
    memory_.slot_stride = 2 * part;
    memory_.head_dim = config.head_dim;
    const size_t bytes = memory_.slot_stride * pages_ * config.kv_heads;
    bytes_ = MakeAligned(bytes);
    std::memset(bytes_.get(), 0, bytes);
    memory_.base = bytes_.get();
    slots_.resize(size_t(pages_) * config.kv_heads);
    std::iota(slots_.begin(), slots_.end(), 0);
  }

  void Append(int position, int tokens, const LayerQkv& qkv) {
    const int dim = config_.head_dim;
    for (int t = 0; t < tokens; ++t) {
      for (int head = 0; head < config_.kv_heads; ++head) {
        const size_t from = (size_t(t) * config_.kv_heads + head) * dim;
        uint16_t* key = Key(head, position + t);
        uint16_t* value = key + memory_.v_offset / kKvElementBytes;
        for (int c = 0; c < dim; ++c) {
          key[c] = FloatToF16(qkv.k[from + c]);
          value[c] = FloatToF16(qkv.v[from + c]);
        }
      }
    }
  }

  void Attend(int position, int queries, const float* q, float* out) const {
    const int tokens = position + queries;
    const int pages = (tokens + kPageTokens - 1) / kPageTokens;
    std::vector<PageTable> tables;
    for (int head = 0; head < config_.kv_heads; ++head) {
      tables.push_back({slots_.data() + size_t(head) * pages_, pages,
                        tokens - (pages - 1) * kPageTokens});
    }
    ChunkAttention args;
    args.memory = memory_;
    args.kv_heads = config_.kv_heads;
    args.group = config_.group();
    args.queries = queries;
    args.first_position = position;
    args.q = q;
    args.scale = 1 / std::sqrt(static_cast<float>(config_.head_dim));
    args.tables = tables.data();
    args.out = out;
    ChunkAttentionCpu(args, 0, 1);
  }

  AlignedBytes TakeKeys(int head, int tokens) {
    const size_t row = size_t{kKvElementBytes} * config_.head_dim;
    AlignedBytes keys = MakeAligned(tokens * row);
    for (int t = 0; t < tokens; ++t) {
      std::memcpy(keys.get() + t * row, Key(head, t), row);
    }
    return keys;
  }

 private:
  uint16_t* Key(int head, int position) {
    std::byte* slot = bytes_.get() +
                      (size_t(head) * pages_ + position / kPageTokens) *
                          memory_.slot_stride;
    return reinterpret_cast<uint16_t*>(slot) +
           size_t(position % kPageTokens) * config_.head_dim;
  }

  const ModelConfig config_;
  const int pages_;
  SlotMemory memory_;
  AlignedBytes bytes_;
  std::vector<int32_t> slots_;
};

}  // namespace

absl::StatusOr<KeyCapture> CaptureKeys(ModelRuntime* model,
                                       std::span<const int32_t> text,
                                       int query_span, int query_step) {
  const ModelConfig& config = model->config();
  const int total = static_cast<int>(text.size());
  const int first_query = total - query_span;
  KeyCapture capture;
  capture.layers = config.layers;
  capture.kv_heads = config.kv_heads;
  capture.group = config.group();
  capture.head_dim = config.head_dim;
  capture.tokens = first_query / kCodePlaneTokens * kCodePlaneTokens;
  capture.query_tokens = (query_span + query_step - 1) / query_step;
  FC_CHECK(capture.tokens > 0 && query_span > 0) << total << " tokens";
  capture.queries.resize(config.layers);
  std::vector<LayerKv> kv;
  for (int layer = 0; layer < config.layers; ++layer) {
    kv.emplace_back(config, total);
  }
  std::vector<float> attention;
  const int query_floats = config.query_heads * config.head_dim;
  for (int position = 0; position < total; position += kChunkTokens) {
    const int n = std::min(kChunkTokens, total - position);
    auto qkv = model->Begin(text.subspan(position, n), position);
    for (int layer = 0;; ++layer) {
      if (!qkv.ok()) return qkv.status();
      kv[layer].Append(position, n, *qkv);
      attention.resize(qkv->q.size());
      kv[layer].Attend(position, n, qkv->q.data(), attention.data());
      for (int t = 0; t < n; ++t) {
        const int query = position + t - first_query;
        if (query < 0 || query % query_step != 0) continue;
        const float* from = qkv->q.data() + size_t(t) * query_floats;
        capture.queries[layer].insert(capture.queries[layer].end(), from,
                                      from + query_floats);
      }
      if (layer + 1 == config.layers) break;
      qkv = model->Next(attention);
    }
    const auto logits = model->Finish(attention, LogitRows::kNone);
    if (!logits.ok()) return logits.status();
  }
  for (LayerKv& layer : kv) {
    for (int head = 0; head < config.kv_heads; ++head) {
      capture.keys.push_back(layer.TakeKeys(head, capture.tokens));
    }
  }
  return capture;
}

}  // namespace forecache
