// Packing the blocks that a fetch asks for into pushes.
#ifndef FORECACHE_KVSTORE_GATHER_H_
#define FORECACHE_KVSTORE_GATHER_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/bytes.h"
#include "kvstore/session.h"
#include "kvstore/wire.h"

namespace forecache {

// One packed push: wire::PushEntry [entries], then the parts.
struct PackedPush {
  size_t entries = 0;      // of the fetch, from its front
  size_t bytes = 0;        // of payload
  size_t table_bytes = 0;  // its entries: what payload_crc covers
  size_t blocks = 0;       // with bytes
  size_t lost = 0;         // refused: their checksum does not match
};

// The most entries that one push takes.
size_t PushEntriesMax(const KvGeometry& geometry);

// The most that a push of these entries takes.
size_t PushBytes(const KvGeometry& geometry, size_t entries);

// kInvalidArgument names the field that is outside its limit.
absl::Status ValidateFetch(const KvGeometry& geometry,
                           std::span<const wire::FetchEntry> entries);

// Whether a push of these entries, as many as it takes, reads from a device.
bool NeedsDevice(const SessionSnapshot& session,
                 std::span<const wire::FetchEntry> entries);

// A Gatherer owns the scratch memory of gathers.
//
// Threads: one thread.
class Gatherer {
 public:
  // Packs as many entries as fit, at most PushEntriesMax, into `payload`.
  // Waits for a device when NeedsDevice.
  // `damaged` gets the number of each segment that a lost block is in.
  // REQUIRES: ValidateFetch is OK; `payload` has PushBytes of all entries, or
  // of PushEntriesMax.
  PackedPush Pack(const SessionSnapshot& session,
                  std::span<const wire::FetchEntry> entries,
                  MutableBytes payload, std::vector<int>* damaged);

 private:
  void ReadRun(const SessionSnapshot& session,
               std::span<const wire::FetchEntry> entries, size_t begin,
               size_t end);

  std::vector<BlockRead> reads_;
  std::unique_ptr<PendingReads> pending_;  // while packing
};

}  // namespace forecache

#endif  // FORECACHE_KVSTORE_GATHER_H_
