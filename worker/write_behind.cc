#include "worker/write_behind.h"

#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace forecache {

WriteBehind::WriteBehind(const SessionHandle& session, int stored_blocks,
                         DataPlaneThread* data_plane, SessionFault* fault)
    : session_(session),
      data_plane_(data_plane),
      fault_(fault),
      acknowledged_(session.geometry.layers, stored_blocks),
      ahead_(session.geometry.layers) {}

WriteBehind::~WriteBehind() {
  data_plane_->Run([this] { *alive_ = false; });
}

void WriteBehind::Put(int layer, int first, int count,
                      const DeviceArena* arena, std::vector<int32_t> slots) {
  const KvGeometry& geometry = session_.geometry;
  FC_CHECK(slots.size() == size_t(geometry.kv_heads) * count);
  data_plane_->Post([this, alive = alive_, layer, first, count, arena,
                     slots = std::move(slots)] {
    if (!*alive) return;
    const auto part = [&](int head, int block) {
      return arena->ReadBlock(slots[size_t(head) * count + block]).data();
    };
    const size_t v_offset = session_.geometry.PartBytes();
    const absl::Status sent = data_plane_->client()->PutBlocks(
        session_, layer, first, count,
        PackPutPayload(session_.geometry, count, part,
                       [&](int head, int block) {
                         return part(head, block) + v_offset;
                       }),
        [this, alive = alive_, layer, first, count](const absl::Status& end) {
          if (*alive) Acknowledge(layer, first, count, end);
        });
    if (!sent.ok()) Acknowledge(layer, first, count, sent);
  });
}

void WriteBehind::Acknowledge(int layer, int first, int count,
                              const absl::Status& end) {
  absl::MutexLock lock(&mutex_);
  if (!end.ok()) {
    fault_->Set(Annotate(end, absl::StrCat("put of layer ", layer, ", block ",
                                           first)));
    failed_ = true;
    return;
  }
  auto& ahead = ahead_[layer];
  ahead.push_back({first, count});
  for (size_t i = 0; i < ahead.size();) {
    if (ahead[i].first != acknowledged_[layer]) {
      ++i;
      continue;
    }
    acknowledged_[layer] += ahead[i].second;
    ahead.erase(ahead.begin() + i);
    i = 0;  // what waited behind the gap may follow now
  }
}

int WriteBehind::Acknowledged(int layer) const {
  absl::MutexLock lock(&mutex_);
  return acknowledged_[layer];
}

absl::Status WriteBehind::Await(int layer, int blocks) {
  absl::MutexLock lock(&mutex_);
  const auto done = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return failed_ || acknowledged_[layer] >= blocks;
  };
  mutex_.Await(absl::Condition(&done));
  return failed_ ? fault_->status() : absl::OkStatus();
}

}  // namespace forecache
