#include "worker/prefill_stream.h"

#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace forecache {

int PrefillStream::StagingSlots(const KvGeometry& geometry, int tokens) {
  return 2 * geometry.kv_heads * ((tokens + kBlockTokens - 1) / kBlockTokens);
}

PrefillStream::PrefillStream(const SessionHandle& session,
                             DeviceArena* staging, DataPlaneThread* data_plane,
                             SessionFault* fault)
    : session_(session),
      geometry_(session.geometry),
      blocks_(staging->slots() / (2 * geometry_.kv_heads)),
      staging_(staging),
      data_plane_(data_plane),
      fault_(fault),
      slots_(geometry_.kv_heads),
      tables_(geometry_.kv_heads) {}

PrefillStream::~PrefillStream() {
  // What is still on its way must not find a sink that is gone.
  data_plane_->Run([this] {
    *alive_ = false;
    for (uint64_t request : requests_) {
      if (request != 0) data_plane_->client()->Cancel(request);
    }
  });
}

void PrefillStream::Start(int layer, int blocks) {
  FC_CHECK(blocks <= blocks_) << blocks << " of " << blocks_;
  {
    absl::MutexLock lock(&mutex_);
    halves_[layer % 2] = {.layer = layer, .done = blocks == 0};
  }
  if (blocks == 0) return;
  data_plane_->Post([this, alive = alive_, layer, blocks] {
    if (*alive) Send(layer, blocks);
  });
}

void PrefillStream::Send(int layer, int blocks) {
  entries_.clear();
  for (int head = 0; head < geometry_.kv_heads; ++head) {
    for (int block = 0; block < blocks; ++block) {
      entries_.push_back({.block = static_cast<uint32_t>(block),
                          .kv_head = static_cast<uint16_t>(head),
                          .slot = static_cast<uint32_t>(
                              Slot(layer, head, block)),
                          .generation = static_cast<uint32_t>(layer)});
    }
  }
  absl::StatusOr<uint64_t> request = data_plane_->client()->Fetch(
      session_, layer, entries_, this,
      [this, alive = alive_, layer](const absl::Status& end) {
        if (*alive) End(layer, end);
      });
  if (!request.ok()) {
    End(layer, request.status());
    return;
  }
  requests_[layer % 2] = *request;
}

void PrefillStream::End(int layer, const absl::Status& status) {
  fault_->Set(Annotate(status, absl::StrCat("stream of layer ", layer)));
  absl::MutexLock lock(&mutex_);
  if (halves_[layer % 2].layer == layer) halves_[layer % 2].done = true;
}

absl::Status PrefillStream::Await(int layer) {
  Half& half = halves_[layer % 2];
  absl::MutexLock lock(&mutex_);
  const auto done = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) {
    return half.done;
  };
  FC_CHECK(half.layer == layer) << half.layer << " is not " << layer;
  mutex_.Await(absl::Condition(&done));  // requests end at their deadline
  return fault_->status();
}

void PrefillStream::OnBlock(int layer, const wire::PushEntry& entry,
                            ByteView k, ByteView v) {
  if (!*alive_ || entry.generation != static_cast<uint32_t>(layer)) return;
  staging_->WriteBlock(static_cast<int32_t>(entry.slot), k, v);
}

void PrefillStream::OnBlockFailed(int layer, const wire::FetchEntry& entry,
                                  const absl::Status& why) {
  if (!*alive_ || absl::IsCancelled(why)) return;
  fault_->Set(Annotate(why, absl::StrCat("layer ", layer, ", KV head ",
                                         entry.kv_head, ", block ",
                                         entry.block)));
}

void PrefillStream::Write(int layer, int position, int n, const float* k,
                          const float* v) {
  FC_CHECK(position % kBlockTokens == 0) << position;
  const size_t row_stride = size_t(geometry_.kv_heads) * geometry_.head_dim;
  for (int head = 0; head < geometry_.kv_heads; ++head) {
    for (int done = 0; done < n; done += kBlockTokens) {
      const size_t at = done * row_stride + size_t(head) * geometry_.head_dim;
      staging_->WriteTokens(
          Slot(layer, head, (position + done) / kBlockTokens), 0,
          std::min(kBlockTokens, n - done), k + at, v + at, row_stride);
    }
  }
}

const std::vector<PageTable>& PrefillStream::Tables(int layer, int tokens) {
  const int pages = (tokens + kBlockTokens - 1) / kBlockTokens;
  for (int head = 0; head < geometry_.kv_heads; ++head) {
    slots_[head].resize(pages);
    for (int page = 0; page < pages; ++page) {
      slots_[head][page] = Slot(layer, head, page);
    }
    tables_[head] = {.slots = slots_[head].data(),
                     .pages = pages,
                     .last_page_tokens =
                         tokens - (pages - 1) * kBlockTokens};
  }
  return tables_;
}

}  // namespace forecache
