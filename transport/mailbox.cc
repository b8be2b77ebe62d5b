#include "transport/mailbox.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "common/check.h"

namespace forecache {
namespace mailbox_internal {

constexpr uint64_t kMagic = 0x31584F424D434621;  // "!FCMBOX1"
constexpr size_t kLine = 64;

static_assert(std::atomic<uint64_t>::is_always_lock_free);

// Each counter and flag has a cache line of its own: they are written by
// different processes.
struct Shared {
  uint64_t magic;
  uint64_t bytes;
  uint64_t token;
  alignas(kLine) std::atomic<uint32_t> reader_sleeps;
  alignas(kLine) std::atomic<uint32_t> writer_sleeps;
  struct alignas(kLine) Counter {
    std::atomic<uint64_t> value;
  };
  Counter taken[kMailboxClassCount];  // messages that the reader is done with
};

struct Slot {
  // The message's number in its class, from 1; written last.
  std::atomic<uint64_t> number;
  uint32_t header_bytes;
  uint32_t payload_bytes;
  std::byte header[kHeaderBytesMax];
};
constexpr size_t kPayloadOffset = 1088;
static_assert(kPayloadOffset >= sizeof(Slot) && kPayloadOffset % kLine == 0);

constexpr size_t Stride(int size_class) {
  return kPayloadOffset + kMailboxClasses[size_class].payload_bytes;
}

constexpr std::array<size_t, kMailboxClassCount + 1> Offsets() {
  std::array<size_t, kMailboxClassCount + 1> offsets = {};
  offsets[0] = (sizeof(Shared) + kLine - 1) / kLine * kLine;
  for (int i = 0; i < kMailboxClassCount; ++i) {
    offsets[i + 1] = offsets[i] + Stride(i) * kMailboxClasses[i].slots;
  }
  return offsets;
}
constexpr auto kOffsets = Offsets();

std::byte* SlotBytes(Shared* shared, int size_class, uint64_t number) {
  const uint64_t index = number % kMailboxClasses[size_class].slots;
  return reinterpret_cast<std::byte*>(shared) + kOffsets[size_class] +
         Stride(size_class) * index;
}

Slot* SlotOf(Shared* shared, int size_class, uint64_t number) {
  return reinterpret_cast<Slot*>(SlotBytes(shared, size_class, number));
}

}  // namespace mailbox_internal

namespace {

// Piece by piece: a single memcpy of a megabyte goes past the cache, in which
// the reader would find it.
void Copy(std::byte* to, ByteView from) {
  constexpr size_t kPiece = 64 << 10;
  while (!from.empty()) {
    const size_t size = std::min(kPiece, from.size());
    std::memcpy(to, from.data(), size);
    to += size;
    from = from.subspan(size);
  }
}

}  // namespace

using mailbox_internal::kMagic;
using mailbox_internal::kOffsets;
using mailbox_internal::kPayloadOffset;
using mailbox_internal::Shared;
using mailbox_internal::Slot;
using mailbox_internal::SlotBytes;
using mailbox_internal::SlotOf;

size_t MailboxBytes() { return kOffsets[kMailboxClassCount]; }

int MailboxClassOf(size_t payload_bytes) {
  int size_class = 0;
  while (kMailboxClasses[size_class].payload_bytes < payload_bytes) {
    ++size_class;
    FC_CHECK(size_class < kMailboxClassCount) << payload_bytes;
  }
  return size_class;
}

// --- Writer -----------------------------------------------------------------

bool MailboxWriter::Attach(MutableBytes memory, uint64_t token) {
  auto* shared = reinterpret_cast<Shared*>(memory.data());
  if (memory.size() < MailboxBytes() || shared->magic != kMagic ||
      shared->bytes != MailboxBytes() || shared->token != token) {
    return false;
  }
  shared_ = shared;
  return true;
}

bool MailboxWriter::HasRoom(int size_class) {
  const uint64_t slots = kMailboxClasses[size_class].slots;
  if (written_[size_class] - taken_[size_class] < slots) return true;
  // Only when it looks full: reading the reader's line costs a cache miss.
  taken_[size_class] =
      shared_->taken[size_class].value.load(std::memory_order_acquire);
  return written_[size_class] - taken_[size_class] < slots;
}

bool MailboxWriter::Write(ByteView header, ByteView payload) {
  const MutableBytes place = Reserve(payload.size());
  if (reserved_ < 0) return false;
  Copy(place.data(), payload);
  Commit(header, payload.size());
  return true;
}

MutableBytes MailboxWriter::Reserve(size_t payload_bytes) {
  const int size_class = MailboxClassOf(payload_bytes);
  reserved_ = -1;
  if (!HasRoom(size_class)) return {};
  reserved_ = size_class;
  std::byte* slot = SlotBytes(shared_, size_class, written_[size_class] + 1);
  return {slot + kPayloadOffset, payload_bytes};
}

void MailboxWriter::Commit(ByteView header, size_t payload_bytes) {
  FC_CHECK(reserved_ >= 0) << "Commit without Reserve";
  FC_CHECK(payload_bytes <= kMailboxClasses[reserved_].payload_bytes);
  const uint64_t number = ++written_[reserved_];
  Slot* slot = SlotOf(shared_, reserved_, number);
  slot->header_bytes = header.size();
  slot->payload_bytes = payload_bytes;
  if (!header.empty()) {
    std::memcpy(slot->header, header.data(), header.size());
  }
  slot->number.store(number, std::memory_order_release);
  reserved_ = -1;
}

bool MailboxWriter::TakeReaderSleeps() {
  return shared_->reader_sleeps.load(std::memory_order_relaxed) != 0 &&
         shared_->reader_sleeps.exchange(0) != 0;
}

void MailboxWriter::SetWriterSleeps(bool sleeps) {
  shared_->writer_sleeps.store(sleeps, std::memory_order_relaxed);
}

// --- Reader -----------------------------------------------------------------

void MailboxReader::Format(MutableBytes memory, uint64_t token) {
  FC_CHECK(memory.size() >= MailboxBytes());
  shared_ = new (memory.data()) Shared();
  shared_->token = token;
  shared_->bytes = MailboxBytes();
  shared_->magic = kMagic;
}

bool MailboxReader::HasMessages() const {
  for (int i = 0; i < kMailboxClassCount; ++i) {
    const uint64_t next = taken_[i] + 1;
    if (SlotOf(shared_, i, next)->number.load(std::memory_order_acquire) ==
        next) {
      return true;
    }
  }
  return false;
}

bool MailboxReader::Read(ByteView* header, ByteView* payload) {
  FC_CHECK(reading_ < 0) << "Read before Release";
  for (int tries = 0; tries < kMailboxClassCount; ++tries) {
    const int i = (first_ + tries) % kMailboxClassCount;
    const uint64_t next = taken_[i] + 1;
    Slot* slot = SlotOf(shared_, i, next);
    if (slot->number.load(std::memory_order_acquire) != next) continue;
    reading_ = i;
    first_ = (i + 1) % kMailboxClassCount;
    // Read once: the writer is another process, and may be a broken one.
    const size_t header_bytes = slot->header_bytes;
    const size_t payload_bytes = slot->payload_bytes;
    if (header_bytes > kHeaderBytesMax ||
        payload_bytes > kMailboxClasses[i].payload_bytes) {
      Release();
      continue;
    }
    *header = ByteView(slot->header, header_bytes);
    *payload = ByteView(SlotBytes(shared_, i, next) + kPayloadOffset,
                        payload_bytes);
    return true;
  }
  return false;
}

void MailboxReader::Release() {
  FC_CHECK(reading_ >= 0) << "Release without Read";
  shared_->taken[reading_].value.store(++taken_[reading_],
                                       std::memory_order_release);
  reading_ = -1;
}

void MailboxReader::SetReaderSleeps(bool sleeps) {
  shared_->reader_sleeps.store(sleeps, std::memory_order_relaxed);
}

bool MailboxReader::TakeWriterSleeps() {
  return shared_->writer_sleeps.load(std::memory_order_relaxed) != 0 &&
         shared_->writer_sleeps.exchange(0) != 0;
}

}  // namespace forecache
