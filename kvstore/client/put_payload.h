// The payload of a put, cut.
#ifndef FORECACHE_KVSTORE_CLIENT_PUT_PAYLOAD_H_
#define FORECACHE_KVSTORE_CLIENT_PUT_PAYLOAD_H_

#include <cstddef>
#include <vector>

#include "kvstore/geometry.h"

namespace forecache {

// Blocks [from, from + count) of a PUT_BLOCKS payload of `blocks` blocks, as a
// payload.
std::vector<std::byte> CutPutPayload(const std::vector<std::byte>& payload,
                                     const KvGeometry& geometry, int blocks,
                                     int from, int count);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_PUT_PAYLOAD_H_
