#include "predictor/quest.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "common/check.h"
#include "common/half.h"
#include "common/limits.h"
#include "predictor/history.h"

namespace forecache {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr uint16_t kNoLow = 0x7F80;   // bf16 infinity: no key yet
constexpr uint16_t kNoHigh = 0xFF80;  // bf16 -infinity

// The bf16 next to `value` on the side of smaller ones, or its own.
uint16_t RoundedDown(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t cut = bits >> 16;
  const bool is_away = (bits >> 31) != 0 && (bits & 0xFFFF) != 0;
  return static_cast<uint16_t>(cut + (is_away ? 1 : 0));
}

uint16_t RoundedUp(float value) {
  const uint16_t negated = RoundedDown(-value);
  return negated ^ 0x8000;
}

}  // namespace

QuestPredictor::QuestPredictor(const Shape& shape)
    : shape_(shape), digests_(size_t{1} * shape.layers * shape.kv_heads) {
  FC_CHECK(shape.head_dim > 0) << "head_dim=" << shape.head_dim;
}

void QuestPredictor::Grow(int blocks, Digests* digests) {
  const size_t dim = shape_.head_dim;
  if (blocks * dim <= digests->low.size()) return;
  bytes_ -= digests->Bytes();
  digests->low.reserve(GrownBlocks(blocks) * dim);
  digests->high.reserve(GrownBlocks(blocks) * dim);
  digests->codes.reserve(GrownBlocks(blocks));
  digests->low.resize(blocks * dim, kNoLow);
  digests->high.resize(blocks * dim, kNoHigh);
  bytes_ += digests->Bytes();
}

void QuestPredictor::ObserveKeys(int layer, int kv_head, int block,
                                 std::span<const float> keys) {
  Digests& digests = digests_[HeadIndex(shape_, layer, kv_head)];
  const size_t dim = shape_.head_dim;
  FC_CHECK(block >= 0 && block < kContextBlocksMax) << "block=" << block;
  FC_CHECK(keys.size() % dim == 0)
      << keys.size() << " floats for keys of " << dim;
  Grow(block + 1, &digests);
  for (size_t i = 0; i < keys.size(); ++i) {
    if (!std::isfinite(keys[i])) continue;  // would poison the block's bound
    uint16_t& low = digests.low[block * dim + i % dim];
    uint16_t& high = digests.high[block * dim + i % dim];
    if (keys[i] < BF16ToFloat(low)) low = RoundedDown(keys[i]);
    if (keys[i] > BF16ToFloat(high)) high = RoundedUp(keys[i]);
  }
}

float QuestPredictor::Bounds(const Digests& digests, const float* query) {
  const int dim = shape_.head_dim;
  const int blocks = static_cast<int>(digests.low.size()) / dim;
  const float scale = 1 / std::sqrt(static_cast<float>(dim));
  bounds_.assign(blocks, -kInfinity);
  float high = -kInfinity;
  for (int b = 0; b < blocks; ++b) {
    const size_t at = size_t{1} * b * dim;
    float bound = 0;
    for (int c = 0; c < dim; ++c) {
      // The larger of the two products is at the end that the sign points to.
      bound += query[c] * BF16ToFloat(query[c] > 0 ? digests.high[at + c]
                                                   : digests.low[at + c]);
    }
    bounds_[b] = std::isfinite(bound) ? bound * scale : -kInfinity;
    high = std::max(high, bounds_[b]);
  }
  if (std::isinf(high)) high = 0;  // no block has keys
  float sum = 0;
  for (float& bound : bounds_) sum += bound = std::exp(bound - high);
  return sum;
}

void QuestPredictor::ObserveQuery(int layer, int kv_head,
                                  std::span<const float> query) {
  Digests& digests = digests_[HeadIndex(shape_, layer, kv_head)];
  FC_CHECK(query.size() == size_t{1} * shape_.group * shape_.head_dim)
      << "a query of " << query.size() << " floats";
  const size_t blocks = digests.low.size() / shape_.head_dim;
  scores_.assign(blocks, 0.0f);
  for (int j = 0; j < shape_.group; ++j) {
    const float sum =
        Bounds(digests, query.data() + size_t{1} * j * shape_.head_dim);
    const float share = sum > 0 ? 1 / (sum * shape_.group) : 0;
    for (size_t b = 0; b < blocks; ++b) scores_[b] += bounds_[b] * share;
  }
  digests.codes.resize(blocks);
  for (size_t b = 0; b < blocks; ++b) {
    digests.codes[b] = EncodeScore(scores_[b]);
  }
}

void QuestPredictor::Predict(int layer, int kv_head, const ChoiceRange& range,
                             int count, std::vector<BlockChoice>* choices) {
  top_.Select(digests_[HeadIndex(shape_, layer, kv_head)].codes, range, count,
              choices);
}

}  // namespace forecache
