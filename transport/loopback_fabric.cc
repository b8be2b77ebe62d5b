#include "transport/loopback_fabric.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace forecache::loopback_internal {

Inbox::Inbox(uint64_t id) : id(id), event_fd_(eventfd(0, EFD_NONBLOCK)) {
  FC_CHECK(event_fd_ >= 0) << strerror(errno);
}

Inbox::~Inbox() { close(event_fd_); }

bool Inbox::Push(Packet packet) {
  absl::MutexLock lock(&mutex_);
  if (gone_) return false;
  packets_.push_back(std::move(packet));
  if (packets_.size() == 1) Signal();
  return true;
}

std::deque<Packet> Inbox::TakeAll() {
  absl::MutexLock lock(&mutex_);
  if (!packets_.empty()) Drain();
  return std::exchange(packets_, {});
}

std::deque<Packet> Inbox::Shut() {
  absl::MutexLock lock(&mutex_);
  gone_ = true;
  return std::exchange(packets_, {});
}

bool Inbox::gone() {
  absl::MutexLock lock(&mutex_);
  return gone_;
}

void Inbox::Wait(Nanos timeout) {
  if (woken_.exchange(false) || timeout <= 0) return;
  {
    absl::MutexLock lock(&mutex_);
    if (!packets_.empty()) return;
  }
  pollfd ready = {event_fd_, POLLIN, 0};
  timespec limit = {timeout / kSecond, timeout % kSecond};
  ppoll(&ready, 1, &limit, nullptr);
  // A packet that came is in packets_ for the next Wait to see; a Wake between
  // these two lines leaves the eventfd readable.
  Drain();
  woken_.store(false);
}

// The flag outlives a Progress that drains the eventfd.
void Inbox::Wake() {
  woken_.store(true);
  Signal();
}

void Inbox::Signal() {
  uint64_t one = 1;
  (void)!write(event_fd_, &one, sizeof(one));
}

void Inbox::Drain() {
  uint64_t count;
  (void)!read(event_fd_, &count, sizeof(count));
}

Directory* Directory::Get() {
  static auto* directory = new Directory;
  return directory;
}

std::shared_ptr<Inbox> Directory::Join() {
  absl::MutexLock lock(&mutex_);
  auto inbox = std::make_shared<Inbox>(next_id_++);
  inboxes_[inbox->id] = inbox;
  return inbox;
}

void Directory::Leave(uint64_t id) {
  absl::MutexLock lock(&mutex_);
  inboxes_.erase(id);
}

std::shared_ptr<Inbox> Directory::Find(uint64_t id) {
  absl::MutexLock lock(&mutex_);
  auto found = inboxes_.find(id);
  return found == inboxes_.end() ? nullptr : found->second;
}

uint64_t Directory::NextId() {
  absl::MutexLock lock(&mutex_);
  return next_id_++;
}

uint64_t Directory::AddRegion(MutableBytes bytes) {
  absl::MutexLock lock(&mutex_);
  regions_[next_id_] = bytes;
  return next_id_++;
}

void Directory::RemoveRegion(uint64_t id) {
  absl::MutexLock lock(&mutex_);
  regions_.erase(id);
}

absl::StatusOr<MutableBytes> Directory::Part(uint64_t id, uint64_t offset,
                                             size_t size) {
  auto found = regions_.find(id);
  if (found == regions_.end()) {
    return absl::UnavailableError("the region is gone");
  }
  const MutableBytes bytes = found->second;
  if (offset > bytes.size() || size > bytes.size() - offset) {
    return absl::OutOfRangeError("offset passes the end of the region");
  }
  return bytes.subspan(offset, size);
}

// Both copy under the lock, so that the owner can't unmap the region meanwhile.
absl::Status Directory::WriteRegion(uint64_t id, uint64_t offset,
                                    ByteView source) {
  absl::MutexLock lock(&mutex_);
  FC_ASSIGN_OR_RETURN(const MutableBytes part,
                      Part(id, offset, source.size()));
  if (!source.empty()) std::memcpy(part.data(), source.data(), source.size());
  return absl::OkStatus();
}

absl::Status Directory::ReadRegion(uint64_t id, uint64_t offset,
                                   MutableBytes target) {
  absl::MutexLock lock(&mutex_);
  FC_ASSIGN_OR_RETURN(const MutableBytes part,
                      Part(id, offset, target.size()));
  if (!target.empty()) std::memcpy(target.data(), part.data(), target.size());
  return absl::OkStatus();
}

}  // namespace forecache::loopback_internal
