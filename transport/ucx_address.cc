#include "transport/ucx_address.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "common/clock.h"
#include "common/crc32c.h"
#include "common/rng.h"

namespace forecache::ucx_internal {
namespace {

constexpr uint32_t kAddressMagic = 0x31414346;    // "FCA1"
constexpr uint32_t kRemoteKeyMagic = 0x314B4346;  // "FCK1"

// The fixed part of a packed address; host name and worker address follow.
struct AddressHead {
  uint32_t magic;
  uint32_t pid;
  uint64_t id;
  uint64_t host_id;
  uint32_t host_name_bytes;
  uint32_t worker_bytes;
};
static_assert(sizeof(AddressHead) == 32);

struct RemoteKeyHead {
  uint32_t magic;
  uint32_t rkey_bytes;
  uint64_t base;
  uint64_t size;
};
static_assert(sizeof(RemoteKeyHead) == 24);

template <typename Head>
std::string Bytes(const Head& head) {
  return {reinterpret_cast<const char*>(&head), sizeof(head)};
}

uint64_t Inode(const char* path) {
  struct stat info;
  return stat(path, &info) == 0 ? info.st_ino : 0;
}

// The boot, and the namespaces that shared memory and CMA have to share.
uint64_t HostId() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  const std::string identity = absl::StrCat(
      boot, "/", Inode("/proc/self/ns/ipc"), "/", Inode("/proc/self/ns/pid"));
  const ByteView bytes = std::as_bytes(std::span<const char>(identity));
  return uint64_t{Crc32c(bytes)} << 32 | Crc32c(bytes, 1);
}

}  // namespace

UcxAddress LocalAddress() {
  static std::atomic<uint64_t> opened{0};
  UcxAddress address;
  address.pid = getpid();
  address.host_id = HostId();
  char name[256] = "";
  gethostname(name, sizeof(name) - 1);
  address.host_name = name;
  // Two processes of one host have different pids, two hosts different boots.
  Rng rng(address.host_id ^ (uint64_t{address.pid} << 32) ^
          static_cast<uint64_t>(Clock::Real()->Now()) ^ (++opened << 48));
  address.id = rng.Next() | 1;
  return address;
}

std::string UcxAddress::Pack() const {
  const AddressHead head = {kAddressMagic,
                            pid,
                            id,
                            host_id,
                            static_cast<uint32_t>(host_name.size()),
                            static_cast<uint32_t>(worker.size())};
  return absl::StrCat(Bytes(head), host_name, worker);
}

absl::StatusOr<UcxAddress> UcxAddress::Parse(std::string_view bytes) {
  AddressHead head;
  if (bytes.size() < sizeof(head)) {
    return absl::InvalidArgumentError("address is too short");
  }
  std::memcpy(&head, bytes.data(), sizeof(head));
  bytes.remove_prefix(sizeof(head));
  if (head.magic != kAddressMagic || head.id == 0) {
    return absl::InvalidArgumentError("not an address, or of another version");
  }
  if (bytes.size() != uint64_t{head.host_name_bytes} + head.worker_bytes ||
      head.worker_bytes == 0) {
    return absl::InvalidArgumentError("address is cut short");
  }
  UcxAddress address;
  address.id = head.id;
  address.host_id = head.host_id;
  address.pid = head.pid;
  address.host_name = bytes.substr(0, head.host_name_bytes);
  address.worker = bytes.substr(head.host_name_bytes);
  return address;
}

std::string UcxAddress::PeerName() const {
  return absl::StrCat(pid, "@", host_name);
}

std::string UcxRemoteKey::Pack() const {
  const RemoteKeyHead head = {
      kRemoteKeyMagic, static_cast<uint32_t>(rkey.size()), base, size};
  return absl::StrCat(Bytes(head), rkey);
}

absl::StatusOr<UcxRemoteKey> UcxRemoteKey::Parse(std::string_view bytes) {
  RemoteKeyHead head;
  if (bytes.size() < sizeof(head)) {
    return absl::InvalidArgumentError("remote key is too short");
  }
  std::memcpy(&head, bytes.data(), sizeof(head));
  bytes.remove_prefix(sizeof(head));
  if (head.magic != kRemoteKeyMagic || head.rkey_bytes != bytes.size()) {
    return absl::InvalidArgumentError("not a remote key of this version");
  }
  return UcxRemoteKey{head.base, head.size, std::string(bytes)};
}

}  // namespace forecache::ucx_internal
