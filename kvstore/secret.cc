#include "kvstore/secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include "common/check.h"

namespace forecache {
namespace {

const uint8_t* Octets(ByteView bytes) {
  return reinterpret_cast<const uint8_t*>(bytes.data());
}

}  // namespace

Sha256Digest Sha256(ByteView bytes) {
  Sha256Digest digest;
  unsigned int size = 0;
  FC_CHECK(EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size,
                      EVP_sha256(), nullptr) == 1);
  FC_CHECK(size == digest.size());
  return digest;
}

Sha256Digest HmacSha256(ByteView key, ByteView message) {
  Sha256Digest digest;
  unsigned int size = 0;
  FC_CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                Octets(message), message.size(), digest.data(),
                &size) != nullptr);
  FC_CHECK(size == digest.size());
  return digest;
}

bool SameSecret(ByteView a, ByteView b) {
  return a.size() == b.size() &&
         CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void FillRandom(MutableBytes bytes) {
  FC_CHECK(RAND_bytes(reinterpret_cast<uint8_t*>(bytes.data()),
                      static_cast<int>(bytes.size())) == 1)
      << "the system has no randomness";
}

}  // namespace forecache
