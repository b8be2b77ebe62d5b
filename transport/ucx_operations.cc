#include "transport/ucx_operations.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/ucx_context.h"
#include "transport/ucx_endpoint.h"

namespace forecache::ucx_internal {

constexpr int kGrowth = 64;

UcxOperation* UcxOperations::Start(UcxEndpoint* endpoint, Endpoint::Done done) {
  if (free_.empty()) {
    for (int i = 0; i < kGrowth; ++i) {
      storage_.emplace_back();
      free_.push_back(&storage_.back());
    }
    for (auto* list : {&free_, &ended_, &running_}) {
      list->reserve(std::max(list->capacity(), storage_.size()));
    }
  }
  UcxOperation* operation = free_.back();
  free_.pop_back();
  operation->endpoint = endpoint;
  operation->done = std::move(done);
  ++endpoint->under_way_;
  return operation;
}

void UcxOperations::Release(UcxOperation* operation) {
  --operation->endpoint->under_way_;
  operation->endpoint = nullptr;
  operation->done = nullptr;
  free_.push_back(operation);
}

void UcxOperations::Abandon(UcxOperation* operation) { Release(operation); }

void UcxOperations::End(UcxOperation* operation, ucs_status_t result) {
  operation->result = result;
  ended_.push_back(operation);
}

int UcxOperations::RunDones() {
  int count = 0;
  running_.swap(ended_);
  for (UcxOperation* operation : running_) {
    // Released first: the done may send again.
    Endpoint::Done done = std::move(operation->done);
    const ucs_status_t result = operation->result;
    const absl::Status status =
        result == UCS_OK
            ? absl::OkStatus()
            : FromUcs(result,
                      absl::StrCat("to ", operation->endpoint->PeerName()));
    Release(operation);
    if (done) done(status);
    ++count;
  }
  running_.clear();
  if (orphans_.empty()) return count;
  auto orphans = std::exchange(orphans_, {});
  for (auto& [done, why] : orphans) done(why);
  return count + orphans.size();
}

void UcxOperations::Orphan(UcxEndpoint* endpoint, const absl::Status& why) {
  for (UcxOperation& operation : storage_) {
    if (operation.endpoint != endpoint || !operation.done) continue;
    orphans_.emplace_back(std::exchange(operation.done, nullptr), why);
  }
}

void UcxOperations::CancelAll() {
  RunDones();
  for (UcxOperation& operation : storage_) {
    if (operation.endpoint != nullptr) End(&operation, UCS_ERR_CANCELED);
  }
  RunDones();
}

}  // namespace forecache::ucx_internal
