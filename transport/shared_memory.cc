#include "transport/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace forecache {
namespace {

constexpr char kKeyPrefix[] = "memfd";
constexpr char kFileName[] = "forecache-mailbox";
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

absl::StatusOr<MutableBytes> Map(int fd, size_t size) {
  void* address =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (address == MAP_FAILED) {
    return absl::ErrnoToStatus(errno, "mapping shared memory");
  }
  return MutableBytes(static_cast<std::byte*>(address), size);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Create(
    size_t size) {
  std::unique_ptr<SharedMemory> memory(new SharedMemory);
  memory->fd_ = memfd_create(kFileName, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory->fd_ < 0) return absl::ErrnoToStatus(errno, "memfd_create");
  if (ftruncate(memory->fd_, static_cast<off_t>(size)) != 0 ||
      fcntl(memory->fd_, F_ADD_SEALS, kSeals) != 0) {
    return absl::ErrnoToStatus(errno, "sizing shared memory");
  }
  auto bytes = Map(memory->fd_, size);
  if (!bytes.ok()) return bytes.status();
  memory->bytes_ = *bytes;
  memory->key_ = absl::StrCat(kKeyPrefix, ":", getpid(), ":", memory->fd_);
  return memory;
}

absl::StatusOr<std::unique_ptr<SharedMemory>> SharedMemory::Open(
    const std::string& key) {
  const std::vector<std::string> parts = absl::StrSplit(key, ':');
  int pid, remote_fd;
  if (parts.size() != 3 || parts[0] != kKeyPrefix ||
      !absl::SimpleAtoi(parts[1], &pid) ||
      !absl::SimpleAtoi(parts[2], &remote_fd)) {
    return absl::InvalidArgumentError("not a key of shared memory");
  }
  const std::string path = absl::StrCat("/proc/", pid, "/fd/", remote_fd);
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    return errno == ENOENT ? absl::UnavailableError("its owner is gone")
                           : absl::ErrnoToStatus(errno, path);
  }
  // A key that is out of date may name any file: only memory whose size can't
  // change under us is mapped.
  struct stat info = {};
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0 || fstat(fd, &info) != 0 ||
      info.st_size <= 0) {
    close(fd);
    return absl::UnavailableError("its owner is gone");
  }
  auto bytes = Map(fd, static_cast<size_t>(info.st_size));
  close(fd);
  if (!bytes.ok()) return bytes.status();
  std::unique_ptr<SharedMemory> memory(new SharedMemory);
  memory->bytes_ = *bytes;
  memory->key_ = key;
  return memory;
}

SharedMemory::~SharedMemory() {
  if (bytes_.data() != nullptr) munmap(bytes_.data(), bytes_.size());
  if (fd_ >= 0) close(fd_);
}

}  // namespace forecache
