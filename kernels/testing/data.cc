#include "kernels/testing/data.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "common/rng.h"

namespace forecache {
namespace {

constexpr uint16_t kNan = 0x7FFF;  // in f16 and bf16
constexpr size_t kValueSkew = 6;   // bytes between the K part and the V part

double Norm(const float* x, int n) {
  double sum = 0;
  for (int i = 0; i < n; ++i) sum += double{x[i]} * x[i];
  return std::sqrt(sum);
}

}  // namespace

AlignedBytes MakeAligned(size_t bytes) {
  void* memory = std::aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
  FC_CHECK(memory != nullptr) << bytes;
  return AlignedBytes(static_cast<std::byte*>(memory));
}

AttentionData::AttentionData(const AttentionCase& attention_case)
    : case_(attention_case) {
  const int head_dim = case_.head_dim;
  const size_t part = size_t(kPageTokens) * head_dim * kKvElementBytes;
  memory_.type = case_.type;
  memory_.head_dim = head_dim;
  memory_.v_offset = case_.bench ? part : part + kValueSkew;
  memory_.slot_stride = (memory_.v_offset + part + 63) / 64 * 64;
  scale_ = 1 / std::sqrt(static_cast<float>(head_dim));

  Rng rng(case_.tokens.size() * 1000 + head_dim);
  int slots = 0;
  for (int tokens : case_.tokens) slots += (tokens + 15) / kPageTokens;
  std::vector<int32_t> order(slots);
  for (int i = 0; i < slots; ++i) order[i] = i;
  for (int i = slots - 1; i > 0; --i) {
    std::swap(order[i], order[rng.Below(i + 1)]);
  }
  bytes_ = MakeAligned(slots * memory_.slot_stride);
  memory_.base = bytes_.get();

  auto next = order.begin();
  for (int tokens : case_.tokens) {
    const int pages = (tokens + 15) / kPageTokens;
    slots_.emplace_back(next, next + pages);
    next += pages;
    page_max_.emplace_back(size_t(pages) * case_.group, -1.0f);
  }
  for (int h = 0; h < kv_heads(); ++h) {
    const int pages = static_cast<int>(slots_[h].size());
    tables_.push_back({slots_[h].data(), pages,
                       case_.tokens[h] - (pages - 1) * kPageTokens});
    page_max_rows_.push_back(page_max_[h].data());
  }
  const int rows = std::max(case_.queries, 1);
  q_.resize(size_t(rows) * heads() * head_dim + 1);
  for (float& x : q_) x = rng.Normal() * case_.amplitude;
  out_.resize(q_.size());
  lse_.resize(heads());
  FillSlots();
}

void AttentionData::FillSlots() {
  const int head_dim = case_.head_dim;
  Rng rng(head_dim + 77);
  double key_norm = 0;
  std::vector<float> row(head_dim);
  for (int h = 0; h < kv_heads(); ++h) {
    for (int t = 0; t < tables_[h].pages * kPageTokens; ++t) {
      const bool exists = t < case_.tokens[h];
      uint16_t* slot = reinterpret_cast<uint16_t*>(
          bytes_.get() + slots_[h][t / kPageTokens] * memory_.slot_stride);
      const size_t at = size_t(t % kPageTokens) * head_dim;
      uint16_t* values = slot + memory_.v_offset / 2;
      for (int c = 0; c < head_dim; ++c) {
        const uint16_t key = FloatToKv(case_.type, rng.Normal());
        const uint16_t value = FloatToKv(case_.type, rng.Normal());
        slot[at + c] = exists ? key : kNan;
        values[at + c] = exists ? value : kNan;
        row[c] = KvToFloat(case_.type, key);
        value_bound_ = std::max<double>(
            value_bound_, std::abs(KvToFloat(case_.type, value)));
      }
      key_norm = std::max(key_norm, Norm(row.data(), head_dim));
    }
  }
  double query_norm = 0;
  for (size_t i = 0; i + head_dim <= out_size(); i += head_dim) {
    query_norm = std::max(query_norm, Norm(q() + i, head_dim));
  }
  logit_bound_ = query_norm * key_norm * scale_;
}

size_t AttentionData::kv_bytes() const {
  size_t tokens = 0;
  for (int n : case_.tokens) tokens += n;
  return tokens * case_.head_dim * 2 * kKvElementBytes;
}

DecodeAttention AttentionData::Decode() {
  DecodeAttention args;
  args.memory = memory_;
  args.kv_heads = kv_heads();
  args.group = case_.group;
  args.q = q();
  args.scale = scale_;
  args.tables = tables_.data();
  args.out = out();
  args.lse = lse();
  args.page_max = page_max_rows_.data();
  return args;
}

ChunkAttention AttentionData::Chunk() {
  ChunkAttention args;
  args.memory = memory_;
  args.kv_heads = kv_heads();
  args.group = case_.group;
  args.queries = case_.queries;
  args.first_position = case_.tokens[0] - case_.queries;
  args.q = q();
  args.scale = scale_;
  args.tables = tables_.data();
  args.out = out();
  return args;
}

KeyPlane::KeyPlane(const ScoreCase& score_case, uint64_t seed)
    : shape(score_case) {
  const int head_dim = shape.head_dim;
  Rng rng(seed);
  std::vector<float> offset(head_dim), spread(head_dim), shared(head_dim);
  for (int c = 0; c < head_dim; ++c) {
    const bool outlier = c % 13 == 5;
    offset[c] = rng.Normal() * (outlier ? 6.0f : 0.5f);
    spread[c] = (outlier ? 2.5f : 1.0f) * (0.5f + rng.Uniform());
    shared[c] = rng.Normal();
  }
  keys = MakeAligned(size_t(shape.tokens) * head_dim * kKvElementBytes);
  uint16_t* bits = reinterpret_cast<uint16_t*>(keys.get());
  double key_norm = 0;
  std::vector<float> row(head_dim);
  for (int t = 0; t < shape.tokens; ++t) {
    // Runs of tokens share a direction, so that some blocks matter together.
    const float along = t / 24 % 3 == 0 ? rng.Normal() : 0.0f;
    for (int c = 0; c < head_dim; ++c) {
      const float key =
          offset[c] + spread[c] * rng.Normal() + along * shared[c];
      bits[size_t(t) * head_dim + c] = FloatToKv(shape.type, key);
      row[c] = key;
    }
    key_norm = std::max(key_norm, Norm(row.data(), head_dim));
  }
  q.resize(size_t(shape.group) * head_dim);
  double query_norm = 0;
  for (int g = 0; g < shape.group; ++g) {
    for (int c = 0; c < head_dim; ++c) {
      q[size_t(g) * head_dim + c] = rng.Normal() + 0.4f * shared[c];
    }
    query_norm = std::max(query_norm, Norm(&q[size_t(g) * head_dim], head_dim));
  }
  scale = 1 / std::sqrt(static_cast<float>(head_dim));
  logit_bound = query_norm * key_norm * scale;
}

ExactScores KeyPlane::Exact(float* block_max, float* lse) const {
  ExactScores args;
  args.keys = keys.get();
  args.type = shape.type;
  args.tokens = shape.tokens;
  args.head_dim = shape.head_dim;
  args.group = shape.group;
  args.q = q.data();
  args.scale = scale;
  args.block_max = block_max;
  args.row_stride = row_stride();
  args.lse = lse;
  return args;
}

CodeScores KeyPlane::Codes(const std::byte* code_plane, float* block_max,
                           float* lse) const {
  CodeScores args;
  args.code_plane = code_plane;
  args.head_dim = shape.head_dim;
  args.group = shape.group;
  args.q = q.data();
  args.scale = scale;
  args.block_max = block_max;
  args.row_stride = row_stride();
  args.lse = lse;
  return args;
}

}  // namespace forecache
