#include "predictor/selection.h"

#include <algorithm>
#include <functional>

#include "common/check.h"
#include "common/limits.h"
#include "predictor/history.h"

namespace forecache {
namespace {

static_assert(kContextBlocksMax <= 1 << 16, "a block fits 16 bits of a key");

// Blocks passed over with one comparison when none of them is good enough.
constexpr int kStride = 32;

constexpr size_t kGrowBlocks = 64;

uint16_t LargestOfStride(const uint16_t* codes) {
  int16_t largest = 0;  // codes stay below 2^15, and SSE2 has a signed maximum
  for (int i = 0; i < kStride; ++i) {
    largest = std::max(largest, static_cast<int16_t>(codes[i]));
  }
  return static_cast<uint16_t>(largest);
}

}  // namespace

size_t HeadIndex(const Predictor::Shape& shape, int layer, int kv_head) {
  FC_CHECK(layer >= 0 && layer < shape.layers) << "layer=" << layer;
  FC_CHECK(kv_head >= 0 && kv_head < shape.kv_heads) << "kv_head=" << kv_head;
  return size_t{1} * layer * shape.kv_heads + kv_head;
}

size_t GrownBlocks(size_t blocks) {
  return (blocks + kGrowBlocks - 1) / kGrowBlocks * kGrowBlocks;
}

void CheckRow(const AttentionRow& row, int group, size_t known_blocks) {
  const size_t blocks = row.blocks;
  FC_CHECK(row.blocks >= 0 && row.blocks <= kContextBlocksMax)
      << "blocks=" << row.blocks;
  FC_CHECK(blocks >= known_blocks)
      << "the context shrank from " << known_blocks << " to " << blocks;
  FC_CHECK(row.probabilities.size() == blocks * group)
      << row.probabilities.size() << " probabilities for " << blocks
      << " blocks of " << group << " query heads";
  int previous = -1;
  for (const int32_t block : row.seen) {
    FC_CHECK(block > previous && block < row.blocks)
        << "seen block " << block << " after " << previous << " of "
        << row.blocks;
    previous = block;
  }
}

void MeanOverGroup(const AttentionRow& row, int group, int first, int count,
                   float* means) {
  const float* head = row.probabilities.data() + first;
  std::copy_n(head, count, means);
  for (int i = 1; i < group; ++i) {
    head += row.blocks;
    for (int b = 0; b < count; ++b) means[b] += head[b];
  }
  const float share = 1.0f / static_cast<float>(group);
  for (int b = 0; b < count; ++b) means[b] *= share;
}

void CheckChoice(const ChoiceRange& range, int count) {
  FC_CHECK(count >= 0) << "count=" << count;
  FC_CHECK(range.first >= 0 && range.end <= kContextBlocksMax)
      << "[" << range.first << ", " << range.end << ")";
}

// Shrinks kept_ to the `count` best and raises the threshold to the worst of
// them.
void TopBlocks::Keep(int count) {
  std::nth_element(kept_.begin(), kept_.begin() + (count - 1), kept_.end(),
                   std::greater<>());
  kept_.resize(count);
  threshold_ = kept_.back() >> 16;
}

// From the end, since recent blocks tend to be the better ones and raise the
// threshold early.  It also settles ties: an earlier block must be strictly
// better to come in.
void TopBlocks::ScanBackwards(std::span<const uint16_t> codes, int first,
                              int end, int count) {
  const size_t full = size_t{2} * count;
  bool is_filled = static_cast<int>(kept_.size()) == count;
  for (int b = end; b > first;) {
    if (is_filled && b - first >= kStride &&
        LargestOfStride(&codes[b - kStride]) <= threshold_) {
      b -= kStride;
      continue;
    }
    for (const int stop = std::max(first, b - kStride); b > stop;) {
      --b;
      const uint32_t code = codes[b];
      if (is_filled && code <= threshold_) continue;
      kept_.push_back(code << 16 | static_cast<uint32_t>(b));
      if (kept_.size() == full) {
        Keep(count);
        is_filled = true;
      }
    }
  }
}

void TopBlocks::Select(std::span<const uint16_t> codes,
                       const ChoiceRange& range, int count,
                       std::vector<BlockChoice>* choices) {
  CheckChoice(range, count);
  choices->clear();
  count = std::min(count, range.end - range.first);
  if (count <= 0) return;
  kept_.clear();
  kept_.reserve(size_t{2} * count);
  threshold_ = 0;
  // Blocks past the row score 0 and are the latest: more than `count` of them
  // cannot win.
  const int known_end = std::min(range.end, static_cast<int>(codes.size()));
  for (int b = range.end; b > std::max(range.first, known_end) &&
                          static_cast<int>(kept_.size()) < count;) {
    kept_.push_back(static_cast<uint32_t>(--b));
  }
  ScanBackwards(codes, range.first, known_end, count);
  if (static_cast<int>(kept_.size()) > count) Keep(count);
  std::sort(kept_.begin(), kept_.end(), std::greater<>());
  for (const uint32_t key : kept_) {
    choices->push_back({static_cast<int32_t>(key & 0xFFFF),
                        DecodeScore(static_cast<uint16_t>(key >> 16))});
  }
}

}  // namespace forecache
