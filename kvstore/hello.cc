#include "kvstore/hello.h"

#include <cstring>
#include <span>

#include "kvstore/secret.h"

namespace forecache {
namespace {

// What the MAC is of.
struct Proven {
  char what[16] = "forecache hello";
  uint32_t version = wire::kVersion;
  uint32_t epoch = 0;
  uint64_t request_id = 0;
  uint64_t grant = 0;
};
static_assert(sizeof(Proven) == 40);

}  // namespace

wire::HelloProof ProveHello(const HelloGrant& grant,
                            const wire::WireHeader& header) {
  Proven proven;
  proven.epoch = header.epoch;
  proven.request_id = header.request_id;
  proven.grant = grant.id;
  const Sha256Digest mac = HmacSha256(std::as_bytes(std::span(grant.key)),
                                      AsBytes(proven));
  wire::HelloProof proof;
  proof.grant = grant.id;
  std::memcpy(proof.mac, mac.data(), sizeof(proof.mac));
  return proof;
}

bool IsProof(const HelloGrant& grant, const wire::WireHeader& header,
             const wire::HelloProof& proof) {
  return SameSecret(AsBytes(ProveHello(grant, header)), AsBytes(proof));
}

}  // namespace forecache
