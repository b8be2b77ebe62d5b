// The seam of the data plane: messages and one-sided puts between processes.
//
// A Transport is one device's worth of communication: one address, many
// Endpoints (one a peer).  Implementations: ucx_transport (shared memory, TCP,
// RDMA), loopback_transport (the in-process twin that tests run against) and
// faulty_transport (wraps another and loses, delays, repeats or corrupts by a
// seed).  tests/transport/contract_test.cc holds all of them to this page.
#ifndef FORECACHE_TRANSPORT_TRANSPORT_H_
#define FORECACHE_TRANSPORT_TRANSPORT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/bytes.h"
#include "common/check.h"
#include "common/clock.h"

namespace forecache {

class Endpoint;

// How bytes reach a peer.
enum class TransportOperation {
  kAuto,        // as the transport thinks best
  kMailbox,     // a copy into memory shared with the peer, read in place
  kEager,       // an active message that takes its payload along
  kRendezvous,  // an active message whose payload the receiver fetches
  kPut,         // a write into the peer's registered memory, then a message
  kGet,         // a read of the peer's registered memory
};
inline constexpr int kTransportOperations = 6;

// "mailbox", "eager", ...: for logs and metric labels.
const char* TransportOperationName(TransportOperation operation);

// Receives what peers send.  Every call comes from inside Progress(), on the
// thread that owns the Transport; it must not block, and must not call
// Progress() itself.
//
// Threads: called on the thread that owns the Transport.
class MessageHandler {
 public:
  virtual ~MessageHandler() = default;

  // A whole message arrived from `from`.  The views end with this call: copy
  // what must stay.  Replies go to `from`, which the Transport owns and which
  // stays valid until OnDisconnect names it.
  virtual void OnMessage(Endpoint* from, ByteView header, ByteView payload) = 0;

  // The peer is gone.  `from` is invalid after this call; sends under way to it
  // end with kUnavailable, before or soon after.  It may come late (a second on
  // one host, longer when the network is silent): deadlines and the control
  // plane are what a caller relies on.
  virtual void OnDisconnect(Endpoint* from, const absl::Status& why) = 0;
};

// Memory that peers may write to with Endpoint::Put.
//
// Lifetime: the memory must outlive the region, the region the Transport's
// last operation on it; destroy it before its Transport.
//
// Threads: used by the Transport's thread only.
class MemoryRegion {
 public:
  virtual ~MemoryRegion() = default;
  virtual MutableBytes bytes() const = 0;
  // What a peer needs to write here: opaque, for Endpoint::Put.
  virtual std::string RemoteKey() const = 0;
};

// The way to one peer.
//
// Threads: used by the Transport's thread only.
class Endpoint {
 public:
  // Tells the end of an operation, from inside Progress() or from inside the
  // call that started it.
  using Done = std::function<void(const absl::Status&)>;

  virtual ~Endpoint() = default;

  // Sends one message.  `header` is copied before Send returns.  `payload`
  // must stay unchanged until `done` says that it may be reused; that says
  // nothing about the peer having seen it.  Messages on one endpoint may
  // overtake each other: an answer is the only proof of arrival.
  // Returns kInvalidArgument when header or payload pass the limits
  // (kHeaderBytesMax, kMessageBytesMax), kResourceExhausted when
  // kRequestsInFlightMax sends are under way, kUnavailable when the peer is
  // known to be gone; then `done` is never called.
  virtual absl::Status Send(ByteView header, ByteView payload, Done done) = 0;

  // Writes `source` into the peer's region at `offset`.  `done` means that the
  // peer's memory holds the bytes and `source` may be reused; the peer is not
  // told.  The same errors as Send, kInvalidArgument for a key that is not one,
  // and kOutOfRange for a write that passes the end of the region.
  virtual absl::Status Put(ByteView source, const std::string& remote_key,
                           uint64_t offset, Done done) = 0;

  // Reads target.size() bytes of the peer's region at `offset` into `target`,
  // which must stay until `done` says that they are there.  Errors as Put's;
  // kUnimplemented where the transport can't.
  virtual absl::Status Get(MutableBytes target, const std::string& remote_key,
                           uint64_t offset, Done done) {
    return absl::UnimplementedError("no get on this transport");
  }

  // As Send, by the operation that is named.  kUnimplemented when this peer
  // can't be reached so (yet: mailboxes open in the background), or not with
  // this size.
  virtual absl::Status SendBy(TransportOperation operation, ByteView header,
                              ByteView payload, Done done) {
    return absl::UnimplementedError("no choice of operation");
  }
  // A place for the next message's payload where the peer will read it, so that
  // it is made there and not copied.  Empty when there is none now: Send then.
  // It lasts until the next call on this endpoint or of Progress.
  // REQUIRES: payload_bytes > 0.
  virtual MutableBytes Reserve(size_t payload_bytes) { return {}; }
  // Sends the message whose payload was made there, of which it takes the first
  // `payload_bytes`.
  // REQUIRES: the last call on this endpoint was Reserve, and found a place.
  virtual void Commit(ByteView header, size_t payload_bytes) {
    FC_CHECK(false) << "nothing is reserved";
  }

  // From now on Send carries payloads of `size_from` bytes and more, up to the
  // next larger `size_from` that was named, by `operation`, where it can.
  // REQUIRES: kAuto, kMailbox, kEager or kRendezvous.
  virtual void Prefer(size_t size_from, TransportOperation operation) {}

  // Whether kMailbox is open; where there is one, it opens in the background.
  virtual bool HasMailbox() const { return false; }

  // For logs and metric labels: "shm", "tcp", "rdma", "loopback".
  virtual std::string TransportName() const = 0;
  // For logs: who the peer is.
  virtual std::string PeerName() const = 0;
};

inline constexpr size_t kHeaderBytesMax = 1024;

// What a Transport holds at a moment: what tests hold to be none after use.
struct TransportCounts {
  size_t endpoints = 0;   // open, or closed and not yet freed
  size_t operations = 0;  // sends, puts and gets whose done was not called
  size_t receives = 0;    // messages that are being fetched
};

// Threads: everything but Wake() on the one thread that owns it.
class Transport {
 public:
  // Ends all sends under way: each `done` that was not called yet is called
  // from inside the destructor.  The handler is not.
  virtual ~Transport() = default;

  // REQUIRES: called once, before the first Connect or Progress; `handler`
  // outlives the Transport.
  virtual void SetHandler(MessageHandler* handler) = 0;

  // What a peer passes to Connect.  Opaque bytes, at most 64 KiB; travels by
  // the control plane.
  virtual std::string Address() const = 0;

  // Starts an endpoint to `address`.  Wiring up goes on in the background; a
  // peer that is not there shows as sends that fail or never finish.
  // The Transport owns the endpoint.  When the peer connected to us first, this
  // may be the Endpoint that OnMessage names for it: one Close closes both.
  // Returns kInvalidArgument for bytes that are no address of this kind.
  virtual absl::StatusOr<Endpoint*> Connect(const std::string& address) = 0;

  // Closes an endpoint of Connect or of OnMessage; allowed in callbacks.  Sends
  // under way end with kCancelled or normally, now or in a later Progress, and
  // at the latest when the Transport is destroyed: until its `done`, a payload
  // must stay.  The peer may still get such a message, and damaged when the
  // payload changed after a kCancelled: a checksum of the message's own tells.
  // `endpoint` is invalid afterwards.
  virtual void Close(Endpoint* endpoint) = 0;

  virtual absl::StatusOr<std::unique_ptr<MemoryRegion>> Register(
      MutableBytes memory) = 0;

  virtual TransportCounts Counts() const { return {}; }

  // Does what can be done without waiting: completions, arrivals.  Returns
  // how many events it handled; 0 means idle.
  virtual int Progress() = 0;

  // Sleeps until there is something for Progress, Wake() was called, or
  // `timeout` passed.  Burns no CPU.
  virtual void Wait(Nanos timeout) = 0;

  // Ends a Wait (or makes the next one return at once).
  // Threads: safe to call from any thread, and from a signal handler.
  virtual void Wake() = 0;
};

}  // namespace forecache

#endif  // FORECACHE_TRANSPORT_TRANSPORT_H_
