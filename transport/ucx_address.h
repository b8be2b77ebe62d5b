// What travels before UCX's own bytes: addresses, remote keys, frames.
//
// All fields are little-endian; another version is refused.
#ifndef FORECACHE_TRANSPORT_UCX_ADDRESS_H_
#define FORECACHE_TRANSPORT_UCX_ADDRESS_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/bytes.h"

namespace forecache::ucx_internal {

// Who a transport is, and how UCX reaches it.
struct UcxAddress {
  uint64_t id = 0;       // drawn at start: tells a restarted peer from the old
  uint64_t host_id = 0;  // equal where shared memory should work
  uint32_t pid = 0;
  std::string host_name;
  std::string worker;  // ucp_address_t

  std::string Pack() const;
  static absl::StatusOr<UcxAddress> Parse(std::string_view bytes);
  std::string PeerName() const;  // "pid@host"
};

// This process's address, but for `worker`.
UcxAddress LocalAddress();

// What a peer needs to write to a region.
struct UcxRemoteKey {
  uint64_t base = 0;
  uint64_t size = 0;
  std::string rkey;  // ucp_rkey_pack's

  std::string Pack() const;
  static absl::StatusOr<UcxRemoteKey> Parse(std::string_view bytes);
};

enum class FrameKind : uint8_t {
  kHello = 1,     // first on a connection; the payload is the sender's address
  kMessage = 2,   // the user's header follows the frame
  kBye = 3,       // the sender closed the connection
  kMailbox = 4,   // the payload is the key of the sender's mailbox
  kDoorbell = 5,  // look into your mailbox
};

// Begins the header of every active message.
struct Frame {
  static constexpr uint32_t kMagic = 0x31544346;  // "FCT1"

  uint32_t magic = kMagic;
  FrameKind kind = FrameKind::kMessage;
  uint8_t reserved[3] = {};
  uint64_t sender = 0;      // UcxAddress::id
  uint32_t connection = 0;  // the sender's number of this connection, from 1
  uint32_t answers = 0;     // kHello: the receiver's number, 0 when unknown
};
static_assert(sizeof(Frame) == 24);

}  // namespace forecache::ucx_internal

#endif  // FORECACHE_TRANSPORT_UCX_ADDRESS_H_
