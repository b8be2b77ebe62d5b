#include "kvstore/segment_id.h"

#include "absl/strings/escaping.h"
#include "common/check.h"
#include "kvstore/secret.h"

namespace forecache {
namespace {

Sha256Digest HashOf(const std::string& bytes) {
  return Sha256(std::as_bytes(std::span(bytes)));
}

// Strings carry their length, so that no two lists of fields look alike.
void AppendString(const std::string& value, std::string* out) {
  uint64_t size = value.size();
  out->append(reinterpret_cast<const char*>(&size), sizeof(size));
  out->append(value);
}

template <typename T>
void AppendNumber(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

}  // namespace

std::string SegmentId::ToHex() const {
  return absl::BytesToHexString(absl::string_view(
      reinterpret_cast<const char*>(bytes.data()), bytes.size()));
}

TenantSecret TenantSecret::Random() {
  TenantSecret secret;
  FillRandom(std::as_writable_bytes(std::span(secret.bytes)));
  return secret;
}

TenantSecret TenantSecret::FromPhrase(const std::string& phrase) {
  return TenantSecret{HashOf("forecache tenant secret 1\n" + phrase)};
}

ModelDigest ModelDigest::Of(const ModelIdentityFields& fields) {
  std::string bytes = "forecache model 1\n";
  AppendString(fields.weights_digest, &bytes);
  AppendString(fields.architecture, &bytes);
  AppendNumber<uint32_t>(fields.geometry.layers, &bytes);
  AppendNumber<uint32_t>(fields.geometry.kv_heads, &bytes);
  AppendNumber<uint32_t>(fields.geometry.head_dim, &bytes);
  AppendNumber<uint32_t>(fields.geometry.group, &bytes);
  AppendNumber<uint32_t>(static_cast<uint32_t>(fields.geometry.type), &bytes);
  AppendNumber<float>(fields.rope_base, &bytes);
  AppendNumber<uint32_t>(fields.layout_version, &bytes);
  return ModelDigest{HashOf(bytes)};
}

SegmentId MakeSegmentId(const TenantSecret& secret, const ModelDigest& model,
                        const SegmentId& parent,
                        std::span<const uint32_t> tokens) {
  FC_CHECK(tokens.size() == kSegmentTokens) << tokens.size();
  struct {
    std::array<uint8_t, 32> model;
    SegmentId parent;
    uint32_t tokens[kSegmentTokens];
  } input;
  static_assert(sizeof(input) == 32 + 16 + 4 * kSegmentTokens);
  input.model = model.bytes;
  input.parent = parent;
  std::memcpy(input.tokens, tokens.data(), sizeof(input.tokens));
  const Sha256Digest digest =
      HmacSha256(std::as_bytes(std::span(secret.bytes)), AsBytes(input));
  SegmentId id;
  std::memcpy(id.bytes.data(), digest.data(), id.bytes.size());
  return id;
}

}  // namespace forecache
