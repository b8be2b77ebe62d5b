// One Transport for several DataClients, each the handler of its own endpoint.
#ifndef FORECACHE_KVSTORE_CLIENT_SHARED_TRANSPORT_H_
#define FORECACHE_KVSTORE_CLIENT_SHARED_TRANSPORT_H_

#include <memory>
#include <vector>

#include "transport/transport.h"

namespace forecache {

// Each port is a Transport with at most one endpoint: what arrives from that
// endpoint goes to the port's handler, what arrives from nobody's is dropped.
//
// Threads: the transport's.
// Lifetime: the inner transport outlives it, it outlives the ports' users.
class SharedTransport : public MessageHandler {
 public:
  SharedTransport(Transport* inner, int ports);
  ~SharedTransport() override;

  Transport* port(int number);

  // Moves messages for all ports.
  int Progress();
  void Wait(Nanos timeout);
  // In a round the ports' Progress moves nothing and their Wait does not sleep,
  // so that a client only looks at its deadlines.  EndRound returns the
  // shortest wait that a port asked for, 0 when one of them asked for none.
  void BeginRound() { in_round_ = true; }
  Nanos EndRound();

  // Whether something arrived for the port since the last call.
  bool TakeHeard(int number);
  // Whether the port has an endpoint.
  bool connected(int number) const;
  // Closes the port's endpoint, and lets its handler know that it is gone.
  void Drop(int number, const absl::Status& why);
  // From now on no handler hears of anything.
  void Mute() { muted_ = true; }

  // MessageHandler
  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override;
  void OnDisconnect(Endpoint* from, const absl::Status& why) override;

 private:
  class Port;
  Port* PortOf(Endpoint* endpoint);

  Transport* const inner_;
  std::vector<std::unique_ptr<Port>> ports_;
  bool in_round_ = false;
  bool muted_ = false;
  std::vector<Nanos> waits_;  // asked for in this round
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_SHARED_TRANSPORT_H_
