#include "kvstore/client/request_table.h"

#include "common/check.h"

namespace forecache {
namespace {

// A payload this large is given back rather than kept for the next request.
constexpr size_t kKeptBytesMax = size_t{64} << 10;

}  // namespace

RequestTable::RequestTable(int limit)
    : limit_(limit), slots_(new Request[limit]) {
  free_.reserve(limit);
  for (int slot = limit - 1; slot >= 0; --slot) free_.push_back(slot);
}

Request* RequestTable::Start() {
  if (free_.empty()) return nullptr;
  int slot = free_.back();
  free_.pop_back();
  Request* request = &slots_[slot];
  request->id = ++serial_ * limit_ + slot;
  request->older = newest_;
  request->newer = -1;
  if (newest_ >= 0) slots_[newest_].newer = slot;
  newest_ = slot;
  if (oldest_ < 0) oldest_ = slot;
  ++under_way_;
  return request;
}

Request* RequestTable::Find(uint64_t id) {
  Request* request = &slots_[id % limit_];
  return id != 0 && request->id == id ? request : nullptr;
}

Request* RequestTable::Oldest() {
  return oldest_ < 0 ? nullptr : &slots_[oldest_];
}

std::vector<uint64_t> RequestTable::Ids() const {
  std::vector<uint64_t> ids;
  for (int slot = oldest_; slot >= 0; slot = slots_[slot].newer) {
    ids.push_back(slots_[slot].id);
  }
  return ids;
}

void RequestTable::End(Request* request) {
  FC_CHECK(request->id != 0);
  request->id = 0;
  int& newer_link =
      request->older >= 0 ? slots_[request->older].newer : oldest_;
  int& older_link =
      request->newer >= 0 ? slots_[request->newer].older : newest_;
  newer_link = request->newer;
  older_link = request->older;
  request->restores = false;
  request->sink = nullptr;
  request->correct_sink = nullptr;
  request->done = nullptr;
  request->probe_done = nullptr;
  --under_way_;
  FreeIfIdle(request);
}

void RequestTable::SendEnded(int slot) {
  Request* request = &slots_[slot];
  FC_CHECK(request->sends > 0);
  --request->sends;
  --sending_;
  FreeIfIdle(request);
}

void RequestTable::FreeIfIdle(Request* request) {
  if (request->id != 0 || request->sends > 0) return;
  if (request->payload.capacity() > kKeptBytesMax) {
    std::vector<std::byte>().swap(request->payload);
  }
  request->payload.clear();
  free_.push_back(SlotOf(request));
}

}  // namespace forecache
