// The pair of mailboxes between two UCX endpoints of one host.
#ifndef FORECACHE_TRANSPORT_UCX_MAILBOX_H_
#define FORECACHE_TRANSPORT_UCX_MAILBOX_H_

#include <ucp/api/ucp.h>

#include <array>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "transport/mailbox.h"
#include "transport/shared_memory.h"

namespace forecache::ucx_internal {

struct UcxOperation;
class UcxOperations;

// What arrives from the peer (our memory), and what goes to it (its memory).
//
// Threads: the transport's thread.
class UcxMailbox {
 public:
  explicit UcxMailbox(UcxOperations* operations) : operations_(operations) {}
  // REQUIRES: no operations wait.
  ~UcxMailbox();
  UcxMailbox(const UcxMailbox&) = delete;
  UcxMailbox& operator=(const UcxMailbox&) = delete;

  // Makes our memory; key() is what the peer needs to write to it.  `token`
  // tells it from memory that once had the same key.
  absl::Status OpenIncoming(uint64_t token);
  const std::string& key() const { return incoming_->key(); }
  // Maps the peer's memory.
  absl::Status OpenOutgoing(const std::string& key, uint64_t token);
  bool outgoing() const { return writer_.attached(); }

  // Copies the message now if there is room; else false.
  bool Write(ByteView header, ByteView payload);
  // MailboxWriter's; no place while messages of that class wait.
  MutableBytes Reserve(size_t payload_bytes);
  void Commit(ByteView header, size_t payload_bytes);
  // Keeps `operation` until there is room.
  void Enqueue(UcxOperation* operation);
  // Writes what waits, as far as there is room.  Returns how many.
  int Flush();
  // Ends what waits.
  void Cancel(ucs_status_t why);

  MailboxReader& reader() { return reader_; }
  // Before and after a sleep of our side.
  void SetSleeps(bool sleeps);
  // After SetSleeps(true) and a full fence: is there something to do?
  bool HasWork();
  void MarkReleased() { released_ = true; }
  // What is read or written since the last call: asks for a full fence.
  bool Touched() const { return released_ || written_; }
  // After that fence: true when the peer sleeps and needs a doorbell.
  bool TakeDoorbell();
  // The same without the fence, so true may be missed.
  bool TakeDoorbellEarly();

 private:
  // Whether messages of that class wait: they go first, or they might wait for
  // ever.
  bool Waits(size_t payload_bytes) const {
    return waiting_ > 0 &&
           queues_[MailboxClassOf(payload_bytes)].first != nullptr;
  }

  struct Queue {
    UcxOperation* first = nullptr;
    UcxOperation* last = nullptr;
  };

  UcxOperations* const operations_;
  std::unique_ptr<SharedMemory> incoming_;
  std::unique_ptr<SharedMemory> outgoing_;
  MailboxReader reader_;
  MailboxWriter writer_;
  bool released_ = false;
  bool written_ = false;
  int waiting_ = 0;
  std::array<Queue, kMailboxClassCount> queues_ = {};
};

}  // namespace forecache::ucx_internal

#endif  // FORECACHE_TRANSPORT_UCX_MAILBOX_H_
