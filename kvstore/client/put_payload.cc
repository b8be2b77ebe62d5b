#include "kvstore/client/put_payload.h"

#include "kvstore/wire.h"

namespace forecache {

std::vector<std::byte> CutPutPayload(const std::vector<std::byte>& payload,
                                     const KvGeometry& geometry, int blocks,
                                     int from, int count) {
  const size_t sizes[] = {sizeof(wire::PartChecksums), geometry.PartBytes(),
                          geometry.PartBytes()};
  std::vector<std::byte> cut;
  cut.reserve(payload.size() / blocks * count);
  const std::byte* at = payload.data();
  for (const size_t size : sizes) {
    for (int head = 0; head < geometry.kv_heads; ++head) {
      cut.insert(cut.end(), at + from * size, at + (from + count) * size);
      at += blocks * size;
    }
  }
  return cut;
}

}  // namespace forecache
