// CRC32C (Castagnoli), the checksum on every block part and message.
#ifndef FORECACHE_COMMON_CRC32C_H_
#define FORECACHE_COMMON_CRC32C_H_

#include <cstdint>

#include "common/bytes.h"

namespace forecache {

// The CRC32C of `data`, as RFC 3720 defines it: 0xE3069283 for "123456789".
// `seed` is the CRC of the bytes before, so that parts chain.
//
// Threads: safe to call from any thread.
uint32_t Crc32c(ByteView data, uint32_t seed = 0);

}  // namespace forecache

#endif  // FORECACHE_COMMON_CRC32C_H_
