// How a worker proves to a store's data plane who it is.
//
// Attach, on the control plane, gives a worker that it knows a grant: a number
// and a key.  The HELLO carries the number and a MAC under the key, so that the
// key never crosses the data plane.  A grant is good for one HELLO.
#ifndef FORECACHE_KVSTORE_HELLO_H_
#define FORECACHE_KVSTORE_HELLO_H_

#include <array>
#include <cstdint>

#include "kvstore/wire.h"

namespace forecache {

// Threads: a value.
struct HelloGrant {
  uint64_t id = 0;
  std::array<uint8_t, 32> key{};
};

// What a HELLO with this header carries.  It covers the version, the epoch and
// the request's id, so that none of them can be another's.
wire::HelloProof ProveHello(const HelloGrant& grant,
                            const wire::WireHeader& header);

// Whether `proof` was made by who has the grant's key.  Constant time.
bool IsProof(const HelloGrant& grant, const wire::WireHeader& header,
             const wire::HelloProof& proof);

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_HELLO_H_
