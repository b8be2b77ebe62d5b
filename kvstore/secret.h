// Hashes, keys and randomness: the one door to OpenSSL's libcrypto.
#ifndef FORECACHE_KVSTORE_SECRET_H_
#define FORECACHE_KVSTORE_SECRET_H_

#include <array>
#include <cstdint>
#include <functional>

#include "common/bytes.h"

namespace forecache {

using Sha256Digest = std::array<uint8_t, 32>;

Sha256Digest Sha256(ByteView bytes);
Sha256Digest HmacSha256(ByteView key, ByteView message);

// Whether two strings of bytes are the same, in a time that depends on their
// sizes alone.
bool SameSecret(ByteView a, ByteView b);

// From the system's randomness, which must be there.
void FillRandom(MutableBytes bytes);
// Where ids and keys come from: FillRandom, but in simulations.
using RandomSource = std::function<void(MutableBytes bytes)>;

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_SECRET_H_
