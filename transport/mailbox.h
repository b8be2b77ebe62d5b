// Messages through memory that two processes of one host share.
//
// The reader's process owns the memory, one writer's process maps it.  A
// message is one copy into a slot and one store that publishes it; the reader
// sees it in place.  So nothing of a message passes a queue that other peers
// write to: what a dying writer leaves unfinished stays in its own mailbox.
#ifndef FORECACHE_TRANSPORT_MAILBOX_H_
#define FORECACHE_TRANSPORT_MAILBOX_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "common/bytes.h"
#include "common/limits.h"
#include "transport/transport.h"

namespace forecache {

namespace mailbox_internal {
struct Slot;
struct Shared;
}  // namespace mailbox_internal

// Slots of a size: few, so that they stay in the cache of who writes them.
struct MailboxClass {
  size_t payload_bytes;  // at most, of a slot
  uint32_t slots;
};
inline constexpr MailboxClass kMailboxClasses[] = {
    {256, 64}, {8 << 10, 16}, {64 << 10, 8}, {256 << 10, 4}, {1 << 20, 3}};
inline constexpr int kMailboxClassCount = 5;
inline constexpr size_t kMailboxPayloadMax = 1 << 20;

// What both ends have to map.  Pages that no message needed stay untouched.
size_t MailboxBytes();
// The class that a payload goes to.  REQUIRES: size <= kMailboxPayloadMax.
int MailboxClassOf(size_t payload_bytes);

// The end that writes.
//
// Threads: one.
class MailboxWriter {
 public:
  MailboxWriter() = default;
  // `memory` as the reader formatted it with `token`.  False when it is of
  // another layout, or another reader's.
  bool Attach(MutableBytes memory, uint64_t token);
  void Detach() { shared_ = nullptr; }
  bool attached() const { return shared_ != nullptr; }

  // False when the class of this payload has no free slot.
  // REQUIRES: attached(), and sizes within kHeaderBytesMax and
  // kMailboxPayloadMax.
  bool Write(ByteView header, ByteView payload);
  bool HasRoom(int size_class);
  // The next message's place for `payload_bytes`; empty when the class is full.
  // A Write, and the next Reserve, take it back.  REQUIRES: as Write.
  MutableBytes Reserve(size_t payload_bytes);
  // Publishes the message whose payload is in that place.
  // REQUIRES: it was not taken back, and has room.
  void Commit(ByteView header, size_t payload_bytes);

  // True once when the reader went to sleep: it needs a doorbell.  Exact only
  // after a full fence that follows the Write.
  bool TakeReaderSleeps();
  // Before the writer sleeps because a class is full; look at HasRoom after a
  // full fence.
  void SetWriterSleeps(bool sleeps);

 private:
  mailbox_internal::Shared* shared_ = nullptr;
  std::array<uint64_t, kMailboxClassCount> written_ = {};
  std::array<uint64_t, kMailboxClassCount> taken_ = {};  // as last seen
  int reserved_ = -1;  // the class of the place that Reserve gave
};

// The end that reads, and owns the memory.
//
// Threads: one.
class MailboxReader {
 public:
  MailboxReader() = default;
  // `token` is what the writer has to know.
  // REQUIRES: memory.size() >= MailboxBytes(), zeroed, aligned to a cache line.
  void Format(MutableBytes memory, uint64_t token);
  bool formatted() const { return shared_ != nullptr; }

  bool HasMessages() const;
  // The oldest message of a class that has one, the classes by turns; false
  // when there is none.  The views hold until Release.  A message that claims
  // more than its slot holds is taken and dropped.
  bool Read(ByteView* header, ByteView* payload);
  void Release();

  void SetReaderSleeps(bool sleeps);
  // True once when the writer sleeps until a slot is free: it needs a doorbell.
  // Exact only after a full fence that follows the Release.
  bool TakeWriterSleeps();

 private:
  mailbox_internal::Shared* shared_ = nullptr;
  std::array<uint64_t, kMailboxClassCount> taken_ = {};
  int first_ = 0;     // where the next Read begins to look
  int reading_ = -1;  // the class of the message that Read returned
};

}  // namespace forecache

#endif  // FORECACHE_TRANSPORT_MAILBOX_H_
