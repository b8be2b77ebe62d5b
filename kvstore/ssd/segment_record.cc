#include "kvstore/ssd/segment_record.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/crc32c.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache {
namespace {

static_assert(std::endian::native == std::endian::little);

size_t WholePages(size_t bytes) {
  return (bytes + kSsdPageBytes - 1) / kSsdPageBytes * kSsdPageBytes;
}

ByteView BytesOf(std::string_view text) {
  return std::as_bytes(std::span(text));
}

template <typename T>
void Append(const T& value, std::string* out) {
  static_assert(std::is_trivially_copyable_v<T>);
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Takes fields off the front of a record.
//
// Threads: one thread.
class Reader {
 public:
  explicit Reader(std::string_view rest) : rest_(rest) {}

  template <typename T>
  T Next() {
    T value{};
    const std::string_view bytes = Bytes(sizeof(value));
    if (ok_) std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }
  std::string_view Bytes(size_t count) {
    if (rest_.size() < count) ok_ = false;
    if (!ok_) return {};
    std::string_view bytes = rest_.substr(0, count);
    rest_.remove_prefix(count);
    return bytes;
  }
  bool ok() const { return ok_; }
  bool at_end() const { return ok_ && rest_.empty(); }
  size_t left() const { return rest_.size(); }

 private:
  std::string_view rest_;
  bool ok_ = true;
};

bool IsStoredCodeKind(uint32_t kind) {
  return kind == static_cast<uint32_t>(CodeKind::k4Bit) ||
         kind == static_cast<uint32_t>(CodeKind::k2BitRotated);
}

void AppendGeometry(const KvGeometry& geometry, std::string* out) {
  Append(static_cast<uint32_t>(geometry.layers), out);
  Append(static_cast<uint32_t>(geometry.kv_heads), out);
  Append(static_cast<uint32_t>(geometry.head_dim), out);
  Append(static_cast<uint32_t>(geometry.group), out);
  Append(static_cast<uint32_t>(geometry.type), out);
}

KvGeometry ReadGeometry(Reader* reader) {
  // Larger numbers than the limits must not wrap into them.
  auto next = [&] {
    return static_cast<int>(
        std::min<uint32_t>(reader->Next<uint32_t>(), 1 << 20));
  };
  KvGeometry geometry;
  geometry.layers = next();
  geometry.kv_heads = next();
  geometry.head_dim = next();
  geometry.group = next();
  geometry.type = static_cast<KvType>(std::min(next(), 255));
  return geometry;
}

}  // namespace

// Version and checksum first: a newer version may change what follows them.
std::string EncodeSegmentRecord(const SegmentRecord& record) {
  FC_CHECK(record.origin.tenant.size() <= kSsdTenantBytesMax);
  std::string body;
  body.append(reinterpret_cast<const char*>(record.id.bytes.data()),
              record.id.bytes.size());
  Append(record.origin.parent.bytes, &body);
  Append(record.origin.model.bytes, &body);
  AppendGeometry(record.geometry, &body);
  Append(static_cast<uint32_t>(record.code_kind), &body);
  Append(record.generation, &body);
  Append(record.summary_crc, &body);
  Append(static_cast<uint8_t>(record.origin.tenant.size()), &body);
  body += record.origin.tenant;
  Append(static_cast<uint32_t>(record.extents.size()), &body);
  for (uint32_t extent : record.extents) Append(extent, &body);
  std::string bytes;
  Append(record.has_value_planes ? kSegmentRecordVersion : uint16_t{1},
         &bytes);
  Append(Crc32c(BytesOf(body)), &bytes);
  return bytes + body;
}

absl::StatusOr<SegmentRecord> DecodeSegmentRecord(const SegmentId& id,
                                                  std::string_view bytes) {
  Reader head(bytes);
  const auto version = head.Next<uint16_t>();
  const auto crc = head.Next<uint32_t>();
  if (!head.ok() || version == 0) return absl::DataLossError("record: cut");
  if (version > kSegmentRecordVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("record: its format is version ", version,
                     ", this store reads up to ", kSegmentRecordVersion));
  }
  const std::string_view body = head.Bytes(head.left());
  if (Crc32c(BytesOf(body)) != crc) {
    return absl::DataLossError("record: does not match its checksum");
  }
  Reader reader(body);
  SegmentRecord record;
  record.has_value_planes = version > 1;
  record.id.bytes = reader.Next<decltype(SegmentId::bytes)>();
  record.origin.parent.bytes = reader.Next<decltype(SegmentId::bytes)>();
  record.origin.model.bytes = reader.Next<decltype(ModelDigest::bytes)>();
  record.geometry = ReadGeometry(&reader);
  const auto code_kind = reader.Next<uint32_t>();
  record.generation = reader.Next<uint64_t>();
  record.summary_crc = reader.Next<uint32_t>();
  record.origin.tenant = reader.Bytes(reader.Next<uint8_t>());
  const size_t extents = reader.Next<uint32_t>();
  if (!reader.ok() || reader.left() != extents * sizeof(uint32_t)) {
    return absl::DataLossError("record: its fields do not fill it");
  }
  for (size_t i = 0; i < extents; ++i) {
    record.extents.push_back(reader.Next<uint32_t>());
  }
  if (record.id != id) return absl::DataLossError("record: another segment's");
  if (!IsStoredCodeKind(code_kind)) {
    return absl::DataLossError(
        absl::StrCat("record: code planes of kind ", code_kind));
  }
  record.code_kind = static_cast<CodeKind>(code_kind);
  absl::Status geometry = record.geometry.Validate();
  if (!geometry.ok()) return absl::DataLossError(geometry.message());
  return record;
}

SegmentLayout::SegmentLayout(const KvGeometry& geometry, CodeKind code_kind,
                             bool has_value_planes)
    : kv_heads(geometry.kv_heads),
      planes(size_t{1} * geometry.layers * geometry.kv_heads),
      block_bytes(geometry.BlockBytes()),
      code_stride(Segment::CodeStride(geometry, code_kind)),
      value_stride(has_value_planes ? Segment::ValueStride(geometry) : 0),
      checksums_offset(planes * (code_stride + value_stride)),
      summary_offset(WholePages(planes * kSegmentBlocks * block_bytes)),
      summary_bytes(WholePages(checksums_offset +
                               planes * kSegmentBlocks *
                                   sizeof(wire::PartChecksums))),
      bytes(summary_offset + summary_bytes) {}

}  // namespace forecache
