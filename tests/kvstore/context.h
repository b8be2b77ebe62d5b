// A context of random tokens and KV, the same for the same seed.
#ifndef FORECACHE_TESTS_KVSTORE_CONTEXT_H_
#define FORECACHE_TESTS_KVSTORE_CONTEXT_H_

#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "common/check.h"
#include "common/half.h"
#include "common/rng.h"
#include "kvstore/client/data_client.h"
#include "kvstore/segment.h"
#include "kvstore/segment_id.h"

namespace forecache {

inline constexpr KvGeometry kTestGeometry = {
    .layers = 2, .kv_heads = 2, .head_dim = 32, .group = 2,
    .type = KvType::kF16};

inline ModelIdentityFields TestModel(
    const KvGeometry& geometry = kTestGeometry) {
  return {"00ff", "llama", geometry, 10000.0f, 1};
}

// Threads: one thread.
class TestContext {
 public:
  TestContext(uint64_t seed, int segments,
              const KvGeometry& geometry = kTestGeometry)
      : geometry_(geometry), blocks_(segments * kSegmentBlocks) {
    Rng rng(seed);
    // One token more, so that all segments can be a prefix.
    tokens_.resize(segments * kSegmentTokens + 1);
    for (uint32_t& token : tokens_) token = rng.Below(50000);
    values_.resize(size_t{2} * geometry.layers * geometry.kv_heads * blocks_ *
                   kBlockTokens * geometry.head_dim);
    for (uint16_t& value : values_) {
      value = FloatToKv(geometry.type, rng.Normal());
    }
  }

  const KvGeometry& geometry() const { return geometry_; }
  int blocks() const { return blocks_; }
  std::span<const uint32_t> tokens() const { return tokens_; }
  std::span<const uint32_t> SegmentTokens(int segment) const {
    return tokens().subspan(segment * kSegmentTokens, kSegmentTokens);
  }

  ByteView Part(int layer, int head, int block, bool value) const {
    size_t plane =
        (size_t{1} * layer * geometry_.kv_heads + head) * 2 + value;
    size_t elements = size_t{kBlockTokens} * geometry_.head_dim;
    return AsBytes(std::span(values_).subspan(
        (plane * blocks_ + block) * elements, elements));
  }
  // The keys of one (layer, KV head), all blocks.
  const std::byte* Keys(int layer, int head) const {
    return Part(layer, head, 0, false).data();
  }

  std::vector<std::byte> PutPayload(int layer, int first, int count) const {
    return PackPutPayload(
        geometry_, count,
        [&](int head, int block) {
          return Part(layer, head, first + block, false).data();
        },
        [&](int head, int block) {
          return Part(layer, head, first + block, true).data();
        });
  }

 private:
  const KvGeometry geometry_;
  const int blocks_;
  std::vector<uint32_t> tokens_;
  std::vector<uint16_t> values_;
};

// Segment `number` of the context, sealed with codes of `kind`.
inline std::shared_ptr<Segment> SealedSegment(const TestContext& context,
                                              int number, CodeKind kind,
                                              DramArena* arena) {
  const KvGeometry& geometry = context.geometry();
  auto segment = *Segment::Create(arena, geometry, kind);
  const size_t part = geometry.PartBytes();
  for (int layer = 0; layer < geometry.layers; ++layer) {
    for (int block = 0; block < kSegmentBlocks; ++block) {
      const auto payload =
          context.PutPayload(layer, number * kSegmentBlocks + block, 1);
      const std::byte* k =
          payload.data() + geometry.kv_heads * sizeof(wire::PartChecksums);
      FC_CHECK_OK(segment->PutBlock(
          layer, block,
          {payload.data(), sizeof(wire::PartChecksums), k,
           k + geometry.kv_heads * part, part}));
    }
  }
  FC_CHECK_OK(segment->Seal());
  return segment;
}

// Entries for blocks [0, blocks) of all KV heads; slots count up.
inline std::vector<wire::FetchEntry> AllEntries(const KvGeometry& geometry,
                                                int blocks) {
  std::vector<wire::FetchEntry> entries;
  for (int head = 0; head < geometry.kv_heads; ++head) {
    for (int block = 0; block < blocks; ++block) {
      entries.push_back({static_cast<uint32_t>(block),
                         static_cast<uint16_t>(head), 0,
                         static_cast<uint32_t>(entries.size()), 7});
    }
  }
  return entries;
}

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_CONTEXT_H_
