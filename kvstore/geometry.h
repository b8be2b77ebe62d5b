// The shape of a model's KV, and the sizes that follow from it.
#ifndef FORECACHE_KVSTORE_GEOMETRY_H_
#define FORECACHE_KVSTORE_GEOMETRY_H_

#include <cstddef>

#include "absl/status/status.h"
#include "common/half.h"
#include "common/limits.h"

namespace forecache {

// Threads: a value.
struct KvGeometry {
  int layers = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int group = 0;  // query heads of one KV head
  KvType type = KvType::kF16;

  // The K (or V) part of one block of one (layer, KV head).
  size_t PartBytes() const {
    return size_t{kBlockTokens} * head_dim * kKvElementBytes;
  }
  size_t BlockBytes() const { return 2 * PartBytes(); }
  // The K (or V) plane of one segment of one (layer, KV head).
  size_t PlaneBytes() const { return kSegmentBlocks * PartBytes(); }
  // K and V of one token in all layers and heads.
  size_t TokenBytes() const {
    return size_t{2} * layers * kv_heads * head_dim * kKvElementBytes;
  }
  // K and V of a whole segment, code planes left out.
  size_t SegmentBytes() const { return kSegmentTokens * TokenBytes(); }

  bool operator==(const KvGeometry&) const = default;

  // kInvalidArgument names the field and its limit.
  absl::Status Validate() const;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_GEOMETRY_H_
