// The part of DataPlane that takes puts.
#include <memory>
#include <utility>

#include "common/limits.h"
#include "kvstore/data_plane.h"

namespace forecache {

void DataPlane::OnPutBlocks(Endpoint* from, const wire::Message& message) {
  auto session = Admit(from, message);
  if (!session.ok()) return;
  auto body = wire::BodyOf<wire::PutBlocksBody>(message);
  if (!body.ok()) return AnswerPut(from, message.header, body.status());
  session->segments = nullptr;  // they may have to make room
  const bool waits_apart = put_thread_->threads() > 0;
  absl::Status status = store_->PutBlocks(
      *session, body->layer, body->first_block, body->block_count,
      message.payload, waits_apart ? RoomWait::kNone : RoomWait::kForSsd);
  if (waits_apart && absl::IsUnavailable(status)) {
    if (MayDefer(session->tenant->id, message.payload.size())) {
      return DeferPut(from, message, *body, *std::move(session));
    }
    status = absl::ResourceExhaustedError(
        "no room in memory, and too many puts wait for it");
  }
  AnswerPut(from, message.header, status);
}

bool DataPlane::MayDefer(TenantId tenant, size_t bytes) const {
  const size_t limit = options_.waiting_put_bytes;
  const auto own = tenant_put_bytes_.find(tenant);
  const size_t own_bytes = own == tenant_put_bytes_.end() ? 0 : own->second;
  return waiting_put_bytes_ + bytes <= limit && own_bytes + bytes <= limit / 2;
}

void DataPlane::DeferPut(Endpoint* from, const wire::Message& message,
                         const wire::PutBlocksBody& body,
                         SessionSnapshot session) {
  auto put = std::make_unique<WaitingPut>();
  put->from = from;
  put->tenant = session.tenant->id;
  put->header = message.header;
  put->body = body;
  put->session = std::move(session);
  put->payload.assign(message.payload.begin(), message.payload.end());
  waiting_put_bytes_ += put->payload.size();
  tenant_put_bytes_[put->tenant] += put->payload.size();
  metrics_.puts_waited->Add();
  put_thread_->Submit([store = store_, put = put.get()] {
    put->status = store->PutBlocks(
        std::move(put->session), put->body.layer, put->body.first_block,
        put->body.block_count, put->payload, RoomWait::kForSsd);
    put->ended.store(true, std::memory_order_release);
  });
  puts_.push_back(std::move(put));
}

int DataPlane::RunPuts() {
  int events = 0;
  for (; !puts_.empty() && puts_.front()->ended; ++events) {
    const auto put = std::move(puts_.front());
    puts_.pop_front();
    waiting_put_bytes_ -= put->payload.size();
    const auto own = tenant_put_bytes_.find(put->tenant);
    own->second -= put->payload.size();
    if (own->second == 0) tenant_put_bytes_.erase(own);
    if (put->from != nullptr) AnswerPut(put->from, put->header, put->status);
  }
  return events;
}

void DataPlane::AnswerPut(Endpoint* to, const wire::WireHeader& request,
                          const absl::Status& status) {
  if (status.ok()) return Answer(to, request, wire::MessageType::kPutAck);
  Counter* counter = metrics_.refused_request;
  if (absl::IsDataLoss(status)) counter = metrics_.refused_damaged;
  if (absl::IsResourceExhausted(status)) counter = metrics_.refused_busy;
  Refuse(to, request, status, counter);
}

}  // namespace forecache
