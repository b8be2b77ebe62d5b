// Brings a layer's whole KV through a small staging buffer.
//
// Prefill attends exactly to everything before it, which lives in the store.
// Two layers' worth of staging are enough for contexts of any number of
// layers: while one layer is attended to, the next one's blocks stream in.
#ifndef FORECACHE_WORKER_PREFILL_STREAM_H_
#define FORECACHE_WORKER_PREFILL_STREAM_H_

#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "kernels/attention.h"
#include "kvstore/client/data_client.h"
#include "worker/arena.h"
#include "worker/data_plane_thread.h"
#include "worker/session_fault.h"

namespace forecache {

// Threads: called by the decode thread; BlockSink on the data-plane thread.
// Lifetime: what it is given must outlive it.  One at a time has the arena.
class PrefillStream : public BlockSink {
 public:
  // Slots of a staging arena for contexts of up to `tokens`.
  static int StagingSlots(const KvGeometry& geometry, int tokens);

  PrefillStream(const SessionHandle& session, DeviceArena* staging,
                DataPlaneThread* data_plane, SessionFault* fault);
  ~PrefillStream() override;

  // Asks for blocks [0, blocks) of a layer.
  // REQUIRES: attention over layer - 2 is over.
  void Start(int layer, int blocks);
  // Waits for them.  Any block that fails is an error: prefill is exact.
  absl::Status Await(int layer);

  // Writes a chunk's own tokens behind the blocks of Start.  k and v are
  // [n][kv_heads][head_dim].  REQUIRES: position is a multiple of 16.
  void Write(int layer, int position, int n, const float* k, const float* v);

  // Page tables over the layer's first `tokens` tokens, in order.
  const std::vector<PageTable>& Tables(int layer, int tokens);

  // The slot of a block, for one head.
  int32_t Slot(int layer, int kv_head, int block) const {
    return ((layer % 2) * geometry_.kv_heads + kv_head) * blocks_ + block;
  }

  // BlockSink
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override;
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override;

 private:
  struct Half {
    int layer = -1;
    bool done = true;
  };
  void Send(int layer, int blocks);
  void End(int layer, const absl::Status& status);

  const SessionHandle session_;
  const KvGeometry geometry_;
  const int blocks_;  // of one head in one half
  DeviceArena* const staging_;
  DataPlaneThread* const data_plane_;
  SessionFault* const fault_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  std::vector<std::vector<int32_t>> slots_;
  std::vector<PageTable> tables_;
  // Of the data-plane thread:
  std::vector<wire::FetchEntry> entries_;
  uint64_t requests_[2] = {0, 0};  // of each half; 0: none was sent
  mutable absl::Mutex mutex_;
  Half halves_[2] ABSL_GUARDED_BY(mutex_);
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_PREFILL_STREAM_H_
