// Opens data planes to the clients and the hand-moved peers of tests.
#ifndef FORECACHE_TESTS_KVSTORE_HELLO_H_
#define FORECACHE_TESTS_KVSTORE_HELLO_H_

#include <utility>

#include "common/check.h"
#include "kvstore/client/data_client.h"
#include "kvstore/data_plane.h"
#include "tests/kvstore/manual_peer.h"

namespace forecache {

// What Attach would say to a worker of `tenant`: for one Connect.
inline StoreAddress AddressOf(DataPlane& plane,
                              TenantId tenant = kDefaultTenant) {
  auto grant = plane.Invite(tenant);
  FC_CHECK_OK(grant.status());
  return {"store", plane.Address(), plane.epoch(), *grant};
}

// A HELLO that a peer sends by hand: header and payload.
inline std::pair<ManualPeer::Bytes, ManualPeer::Bytes> HelloMessage(
    const StoreAddress& store, uint64_t id = 1,
    uint64_t push_credit = kPushCreditBytes) {
  wire::WireHeader header;
  header.epoch = store.epoch;
  header.request_id = id;
  const wire::HelloProof proof = ProveHello(store.grant, header);
  const ByteView bytes = AsBytes(proof);
  return {Packed(wire::MessageType::kHello, store.epoch, id, {},
                 AsBytes(wire::HelloBody{push_credit}), bytes, bytes.size()),
          {bytes.begin(), bytes.end()}};
}

// Says hello and has it answered; the answer is forgotten.
inline void Greet(ManualPeer* peer, Endpoint* to, DataPlane* plane,
                  TenantId tenant = kDefaultTenant,
                  uint64_t push_credit = kPushCreditBytes) {
  auto [header, payload] =
      HelloMessage(AddressOf(*plane, tenant), 1, push_credit);
  peer->Send(to, std::move(header), std::move(payload));
  for (int i = 0; i < 10; ++i) {
    peer->transport_.Progress();
    plane->RunOnce();
  }
  FC_CHECK(!peer->headers.empty());
  FC_CHECK(peer->Last().type() == wire::MessageType::kHelloAck);
  peer->headers.clear();
  peer->payloads.clear();
}

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_HELLO_H_
