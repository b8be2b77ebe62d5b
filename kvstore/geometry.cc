#include "kvstore/geometry.h"

#include "absl/strings/str_cat.h"

namespace forecache {
namespace {

absl::Status CheckRange(const char* field, int value, int max) {
  if (value >= 1 && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(field, " is ", value, ", must be 1..", max));
}

}  // namespace

absl::Status KvGeometry::Validate() const {
  for (const absl::Status& status :
       {CheckRange("layers", layers, kLayersMax),
        CheckRange("kv_heads", kv_heads, kKvHeadsMax),
        CheckRange("head_dim", head_dim, kHeadDimMax),
        CheckRange("group", group, kGroupMax)}) {
    if (!status.ok()) return status;
  }
  if (head_dim % 16 != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("head_dim is ", head_dim, ", must be a multiple of 16"));
  }
  if (type != KvType::kF16 && type != KvType::kBF16) {
    return absl::InvalidArgumentError(
        absl::StrCat("kv_type is ", static_cast<int>(type),
                     ", must be 1 (f16) or 2 (bf16)"));
  }
  return absl::OkStatus();
}

}  // namespace forecache
