// Names of segments: keyed hashes of what a segment's KV was computed from.
#ifndef FORECACHE_KVSTORE_SEGMENT_ID_H_
#define FORECACHE_KVSTORE_SEGMENT_ID_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "kvstore/geometry.h"

namespace forecache {

// 128 bits that stand for (tenant, model, all tokens up to the segment's end).
//
// Threads: a value.
struct SegmentId {
  std::array<uint8_t, 16> bytes{};
  auto operator<=>(const SegmentId&) const = default;
  std::string ToHex() const;
};

struct SegmentIdHash {
  size_t operator()(const SegmentId& id) const {
    size_t hash;  // the id is a hash already
    std::memcpy(&hash, id.bytes.data(), sizeof(hash));
    return hash;
  }
};

// The parent of a context's first segment.
inline constexpr SegmentId kRootSegment{};

// What only this tenant knows; without it nobody can name its segments.
//
// Threads: a value.
struct TenantSecret {
  std::array<uint8_t, 32> bytes{};

  // From the system's randomness.
  static TenantSecret Random();
  // From a configured phrase of any length.
  static TenantSecret FromPhrase(const std::string& phrase);
};

// A model as its KV sees it: see ModelIdentity in proto/store.proto.
//
// Threads: a value.
struct ModelIdentityFields {
  std::string weights_digest;
  std::string architecture;
  KvGeometry geometry;
  float rope_base = 0;
  uint32_t layout_version = 0;
};

// SHA-256 of all the fields: two models that differ in any have other digests.
//
// Threads: a value.
struct ModelDigest {
  std::array<uint8_t, 32> bytes{};
  static ModelDigest Of(const ModelIdentityFields& fields);
  bool operator==(const ModelDigest&) const = default;
};

// HMAC-SHA-256, truncated to 128 bits, keyed by the tenant's secret.
// REQUIRES: tokens.size() == kSegmentTokens.
SegmentId MakeSegmentId(const TenantSecret& secret, const ModelDigest& model,
                        const SegmentId& parent,
                        std::span<const uint32_t> tokens);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SEGMENT_ID_H_
