// kvstore/ssd/segment_record.h: what a disk gives back as a record.
#include <cstring>
#include <string>
#include <string_view>

#include "common/check.h"
#include "common/crc32c.h"
#include "kvstore/ssd/segment_record.h"
#include "tests/fuzz/fuzz.h"

namespace forecache::fuzz {
namespace {

constexpr size_t kHeadBytes = sizeof(uint16_t) + sizeof(uint32_t);

SegmentId Id() {
  SegmentId id;
  id.bytes.fill(9);
  return id;
}

}  // namespace

std::vector<Bytes> Seeds() {
  SegmentRecord record;
  record.id = Id();
  record.origin.tenant = "default";
  record.geometry = {.layers = 2, .kv_heads = 2, .head_dim = 32, .group = 2,
                     .type = KvType::kF16};
  record.generation = 7;
  record.extents = {3, 1, 4};
  const std::string bytes = EncodeSegmentRecord(record);
  return {{bytes.begin(), bytes.end()}};
}

void Repair(Bytes* input, Rng*) {
  if (input->size() < kHeadBytes) return;
  const uint16_t version = kSegmentRecordVersion;
  const uint32_t crc = Crc32c(View(*input).subspan(kHeadBytes));
  std::memcpy(input->data(), &version, sizeof(version));
  std::memcpy(input->data() + sizeof(version), &crc, sizeof(crc));
}

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forecache;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto record = DecodeSegmentRecord(fuzz::Id(), bytes);
  if (!record.ok()) return 0;
  FC_CHECK(record->id == fuzz::Id());
  FC_CHECK_OK(record->geometry.Validate());
  const auto again =
      DecodeSegmentRecord(fuzz::Id(), EncodeSegmentRecord(*record));
  FC_CHECK_OK(again.status());
  FC_CHECK(*again == *record);
  return 0;
}
