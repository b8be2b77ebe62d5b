// How LoopbackTransports of one process reach each other.  Private to
// loopback_transport.
#ifndef FORECACHE_TRANSPORT_LOOPBACK_FABRIC_H_
#define FORECACHE_TRANSPORT_LOOPBACK_FABRIC_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/bytes.h"
#include "common/clock.h"

namespace forecache::loopback_internal {

struct Link;

enum class PacketKind { kMessage, kTaken, kClosed };

struct Packet {
  PacketKind kind;
  std::shared_ptr<Link> link;
  int side;         // the receiver's side of the link
  uint64_t number;  // of the send, on its endpoint
  std::vector<std::byte> header = {};
  std::vector<std::byte> payload = {};
};

// Where a Transport's packets wait for its Progress.  An eventfd rather than a
// condition variable, since Wake() must be safe in a signal handler.  Bounded
// by the senders: a send is under way until its packet is taken.
//
// Threads: safe to call from any thread.
class Inbox {
 public:
  explicit Inbox(uint64_t id);
  ~Inbox();

  // False when the owner is gone.
  bool Push(Packet packet);
  std::deque<Packet> TakeAll();
  // Refuses all further packets, and returns those that wait.
  std::deque<Packet> Shut();
  bool gone();

  void Wait(Nanos timeout);
  void Wake();

  const uint64_t id;

 private:
  void Signal();
  void Drain();

  absl::Mutex mutex_;
  std::deque<Packet> packets_ ABSL_GUARDED_BY(mutex_);
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<bool> woken_{false};
  const int event_fd_;
};

// One connection: side 0 connected to side 1.
struct Link {
  uint64_t id = 0;  // rises: what walks links by it is the same in each run
  std::shared_ptr<Inbox> inbox[2];  // [1] is null when nobody was there
  // Each is read and written by the thread of its side only.
  bool closed[2] = {false, false};
};

// Who is in this process, and which memory they registered.
//
// Threads: safe to call from any thread.
class Directory {
 public:
  static Directory* Get();

  std::shared_ptr<Inbox> Join();
  void Leave(uint64_t id);
  std::shared_ptr<Inbox> Find(uint64_t id);

  uint64_t NextId();

  uint64_t AddRegion(MutableBytes bytes);
  void RemoveRegion(uint64_t id);
  absl::Status WriteRegion(uint64_t id, uint64_t offset, ByteView source);
  absl::Status ReadRegion(uint64_t id, uint64_t offset, MutableBytes target);

 private:
  // The part of a region, or why not.
  absl::StatusOr<MutableBytes> Part(uint64_t id, uint64_t offset, size_t size)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  absl::Mutex mutex_;
  uint64_t next_id_ ABSL_GUARDED_BY(mutex_) = 1;
  std::unordered_map<uint64_t, std::shared_ptr<Inbox>> inboxes_
      ABSL_GUARDED_BY(mutex_);
  std::unordered_map<uint64_t, MutableBytes> regions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace forecache::loopback_internal

#endif  // FORECACHE_TRANSPORT_LOOPBACK_FABRIC_H_
