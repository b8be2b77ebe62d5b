// Puts new blocks into the store while the computation goes on.
//
// A block stays in the worker until the store has acknowledged it, so that the
// store's death in the middle of an answer loses nothing.
#ifndef FORECACHE_WORKER_WRITE_BEHIND_H_
#define FORECACHE_WORKER_WRITE_BEHIND_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "kvstore/client/data_client.h"
#include "worker/arena.h"
#include "worker/data_plane_thread.h"
#include "worker/session_fault.h"

namespace forecache {

// Threads: called by the decode thread.
// Lifetime: what it is given must outlive it.
class WriteBehind {
 public:
  // `stored_blocks` of every layer are at the store already.
  WriteBehind(const SessionHandle& session, int stored_blocks,
              DataPlaneThread* data_plane, SessionFault* fault);
  ~WriteBehind();

  // Starts putting blocks [first, first + count) of a layer.  slots[h * count
  // + i] has block first + i of head h; its bytes must not change until a
  // command posted to the data plane after this call runs.
  // REQUIRES: blocks of a layer are put in order.
  void Put(int layer, int first, int count, const DeviceArena* arena,
           std::vector<int32_t> slots);

  // How many leading blocks of the layer the store has acknowledged.
  int Acknowledged(int layer) const;

  // Waits until the store has blocks [0, blocks) of the layer.  Ends with the
  // session's fault, at the latest when a put passes its deadline.
  absl::Status Await(int layer, int blocks);

 private:
  void Acknowledge(int layer, int first, int count, const absl::Status& end);

  const SessionHandle session_;
  DataPlaneThread* const data_plane_;
  SessionFault* const fault_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
  mutable absl::Mutex mutex_;
  std::vector<int> acknowledged_ ABSL_GUARDED_BY(mutex_);
  // Acknowledged out of order: block ranges behind a gap.
  std::vector<std::vector<std::pair<int, int>>> ahead_ ABSL_GUARDED_BY(mutex_);
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace forecache

#endif  // FORECACHE_WORKER_WRITE_BEHIND_H_
