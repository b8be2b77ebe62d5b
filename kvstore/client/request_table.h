// The requests of a DataClient that are under way.
#ifndef FORECACHE_KVSTORE_CLIENT_REQUEST_TABLE_H_
#define FORECACHE_KVSTORE_CLIENT_REQUEST_TABLE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kvstore/client/data_client.h"

namespace forecache {

enum class RequestKind : uint8_t { kHello, kPut, kFetch, kProbe, kCorrect };

struct Request {
  uint64_t id = 0;  // 0: nobody waits for an answer
  int sends = 0;    // of which the transport still reads `payload`
  RequestKind kind = RequestKind::kHello;
  Nanos deadline = 0;
  KvGeometry geometry;
  int layer = 0;
  int blocks = 0;  // of a probe; of a put, KV heads times blocks
  BlockSink* sink = nullptr;
  DataClient::Done done;
  DataClient::ProbeDone probe_done;
  CorrectSink* correct_sink = nullptr;
  std::vector<std::byte> payload;  // a fetch's entries lie here
  std::vector<bool> answered;      // by entry of a fetch, slot of a correction
  size_t unanswered = 0;
  // As it was sent, so that it can be sent again.
  wire::WireHeader header;
  std::byte body[wire::kHeaderAndBodyMax - sizeof(wire::WireHeader)];
  size_t body_bytes = 0;
  bool restores = false;  // a put that brings back what a store lost
  wire::CorrectBody correct;  // of a correction
  bool replied = false;       // to a correction
  // Neighbours in the order of the starts; -1: none.
  int older = -1;
  int newer = -1;

  std::span<const wire::FetchEntry> entries() const {
    return {reinterpret_cast<const wire::FetchEntry*>(payload.data()),
            payload.size() / sizeof(wire::FetchEntry)};
  }
  // Of a correction, where its payload ends.
  std::span<const wire::OfferedSlot> slots() const {
    return {reinterpret_cast<const wire::OfferedSlot*>(
                payload.data() + payload.size()) - correct.slots,
            correct.slots};
  }
  std::span<const uint32_t> slot_count() const {
    return {reinterpret_cast<const uint32_t*>(slots().data()) -
                geometry.kv_heads,
            static_cast<size_t>(geometry.kv_heads)};
  }
  bool IsResident(int kv_head, uint32_t block) const {
    const size_t word =
        kv_head * wire::ResidentWords(correct.blocks) + block / 64;
    return (reinterpret_cast<const uint64_t*>(payload.data())[word] >>
                (block % 64) & 1) != 0;
  }
};

// A fixed number of slots.  An id names its slot, and no id comes twice, so
// that an answer finds its request without a search, and a late one finds
// none.  A slot is free again when its request has ended and the transport has
// let go of its payload.
//
// Threads: one thread.
class RequestTable {
 public:
  explicit RequestTable(int limit);

  // A slot with a new id; null at the limit.
  Request* Start();
  // Null when the id's request has ended.
  Request* Find(uint64_t id);
  // Whether an id was given to a request that has ended.
  bool HasEnded(uint64_t id) {
    return id >= static_cast<uint64_t>(limit_) && id / limit_ <= serial_ &&
           Find(id) == nullptr;
  }
  // The request with the earliest start; null when none is under way.
  Request* Oldest();
  // All that are under way, oldest first.
  std::vector<uint64_t> Ids() const;
  // No answer is wanted any more.  Callbacks are the caller's to keep first.
  void End(Request* request);
  // The transport let go of the payload of the slot `slot`.
  void SendEnded(int slot);
  int SlotOf(const Request* request) const {
    return static_cast<int>(request - slots_.get());
  }

  int under_way() const { return under_way_; }
  int sending() const { return sending_; }
  void MarkSending(Request* request) {
    ++request->sends;
    ++sending_;
  }

 private:
  void FreeIfIdle(Request* request);

  const int limit_;
  const std::unique_ptr<Request[]> slots_;
  std::vector<int> free_;
  uint64_t serial_ = 0;
  int under_way_ = 0;
  int sending_ = 0;
  int oldest_ = -1;
  int newest_ = -1;
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_CLIENT_REQUEST_TABLE_H_
