#include "transport/ucx_mailbox.h"

#include "common/check.h"
#include "common/status.h"
#include "transport/ucx_address.h"
#include "transport/ucx_operations.h"

namespace forecache::ucx_internal {

UcxMailbox::~UcxMailbox() {
  FC_CHECK(waiting_ == 0) << "operations wait in a mailbox that goes";
}

absl::Status UcxMailbox::OpenIncoming(uint64_t token) {
  FC_ASSIGN_OR_RETURN(incoming_, SharedMemory::Create(MailboxBytes()));
  reader_.Format(incoming_->bytes(), token);
  return absl::OkStatus();
}

absl::Status UcxMailbox::OpenOutgoing(const std::string& key, uint64_t token) {
  if (outgoing_ != nullptr) {
    return absl::FailedPreconditionError("a second mailbox of one peer");
  }
  FC_ASSIGN_OR_RETURN(outgoing_, SharedMemory::Open(key));
  if (!writer_.Attach(outgoing_->bytes(), token)) {
    return absl::FailedPreconditionError("a mailbox of another version");
  }
  return absl::OkStatus();
}

bool UcxMailbox::Write(ByteView header, ByteView payload) {
  if (Waits(payload.size()) || !writer_.Write(header, payload)) return false;
  written_ = true;
  return true;
}

MutableBytes UcxMailbox::Reserve(size_t payload_bytes) {
  if (Waits(payload_bytes)) return {};
  return writer_.Reserve(payload_bytes);
}

void UcxMailbox::Commit(ByteView header, size_t payload_bytes) {
  writer_.Commit(header, payload_bytes);
  written_ = true;
}

void UcxMailbox::Enqueue(UcxOperation* operation) {
  Queue& queue = queues_[MailboxClassOf(operation->payload.size())];
  operation->next = nullptr;
  (queue.last == nullptr ? queue.first : queue.last->next) = operation;
  queue.last = operation;
  ++waiting_;
}

int UcxMailbox::Flush() {
  if (waiting_ == 0) return 0;
  int count = 0;
  for (Queue& queue : queues_) {
    while (queue.first != nullptr) {
      UcxOperation* operation = queue.first;
      const ByteView header =
          ByteView(operation->header)
              .subspan(sizeof(Frame), operation->header_bytes);
      if (!writer_.Write(header, operation->payload)) break;
      written_ = true;
      queue.first = operation->next;
      if (queue.first == nullptr) queue.last = nullptr;
      --waiting_;
      ++count;
      operations_->End(operation, UCS_OK);
    }
  }
  return count;
}

void UcxMailbox::Cancel(ucs_status_t why) {
  for (Queue& queue : queues_) {
    while (queue.first != nullptr) {
      UcxOperation* operation = queue.first;
      queue.first = operation->next;
      --waiting_;
      operations_->End(operation, why);
    }
    queue.last = nullptr;
  }
}

void UcxMailbox::SetSleeps(bool sleeps) {
  if (reader_.formatted()) reader_.SetReaderSleeps(sleeps);
  if (writer_.attached() && (waiting_ > 0 || !sleeps)) {
    writer_.SetWriterSleeps(sleeps);
  }
}

bool UcxMailbox::HasWork() {
  if (reader_.formatted() && reader_.HasMessages()) return true;
  if (waiting_ == 0) return false;
  for (int i = 0; i < kMailboxClassCount; ++i) {
    if (queues_[i].first != nullptr && writer_.HasRoom(i)) return true;
  }
  return false;
}

bool UcxMailbox::TakeDoorbell() {
  const bool reader = written_ && writer_.TakeReaderSleeps();
  const bool writer = released_ && reader_.TakeWriterSleeps();
  written_ = released_ = false;
  return reader || writer;
}

bool UcxMailbox::TakeDoorbellEarly() { return writer_.TakeReaderSleeps(); }

}  // namespace forecache::ucx_internal
