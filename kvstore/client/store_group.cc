#include "kvstore/client/store_group.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "kvstore/client/store_group_impl.h"

namespace forecache {
namespace {

void Add(const DataClientCounters& more, DataClientCounters* sum) {
  sum->blocks_put += more.blocks_put;
  sum->blocks_received += more.blocks_received;
  sum->bytes_received += more.bytes_received;
  sum->wire_bytes_sent += more.wire_bytes_sent;
  sum->wire_bytes_received += more.wire_bytes_received;
  sum->probes += more.probes;
  sum->corrections += more.corrections;
  sum->blocks_refused += more.blocks_refused;
  sum->requests_timed_out += more.requests_timed_out;
  sum->answers_late += more.answers_late;
  sum->messages_refused += more.messages_refused;
  sum->blocks_restored += more.blocks_restored;
  sum->kept_bytes += more.kept_bytes;
}

}  // namespace

StoreGroup::Impl::Impl(Transport* transport, Clock* clock,
                       GroupSessions* sessions)
    : clock(clock),
      sessions(sessions),
      shared(transport, sessions->members()),
      members(sessions->members()) {
  for (int m = 0; m < sessions->members(); ++m) {
    members[m].client = std::make_unique<DataClient>(shared.port(m), clock);
    sessions->SetAlive(m, false);
  }
  if (members.size() == 1) members[0].client->SetHold(kStoreRecovery);
}

StoreGroup::Impl::~Impl() { shared.Mute(); }

bool StoreGroup::Impl::AnyUp() const {
  for (size_t m = 0; m < members.size(); ++m) {
    if (IsUp(static_cast<int>(m))) return true;
  }
  return false;
}

absl::Status StoreGroup::Impl::Unavailable(int member) const {
  if (member < 0) return absl::NotFoundError("no store holds the block");
  return absl::UnavailableError(absl::StrCat(
      "store ", member, " of the group ",
      members[member].connected ? "owes answers for too long"
                                : "is not connected"));
}

void StoreGroup::Impl::NotifyLost(int member) {
  if (on_lost) on_lost(member);
}

void StoreGroup::Impl::Lost(int member) {
  sessions->SetAlive(member, false);
  ++counters.stores_lost;
  NotifyLost(member);
}

// A lost connection shows at once; silence is looked for now and then.
void StoreGroup::Impl::CheckMembers() {
  for (size_t i = 0; i < members.size(); ++i) {
    const int m = static_cast<int>(i);
    if (members[m].connected && !shared.connected(m)) {
      members[m].connected = false;
      Lost(m);
    }
  }
  const Nanos now = clock->Now();
  if (now < next_check) return;
  // A store alone is waited for as long as any request may take.
  const Nanos limit = members.size() == 1 ? kRequestTimeout : kStoreSilence;
  // Who did not listen for so long cannot tell who was silent.
  const bool listened = now - next_check < limit / 2;
  next_check = now + kStoreCheckInterval;
  for (size_t i = 0; i < members.size(); ++i) {
    const int m = static_cast<int>(i);
    Member& member = members[m];
    const bool heard = shared.TakeHeard(m);
    if (heard || !listened || member.client->requests_in_flight() == 0) {
      member.heard = now;
    }
    if (heard && member.silent && member.connected) {
      member.silent = false;
      sessions->SetAlive(m, true);
    }
    if (!member.connected || member.silent || now - member.heard < limit) {
      continue;
    }
    member.silent = true;
    Lost(m);
    GiveUpParts(m);
  }
}

int StoreGroup::Impl::RunDeferred() {
  std::vector<std::function<void()>> now;
  now.swap(deferred);
  for (auto& call : now) call();
  return static_cast<int>(now.size());
}

StoreGroup::StoreGroup(Transport* transport, Clock* clock,
                       GroupSessions* sessions)
    : impl_(std::make_unique<Impl>(transport, clock, sessions)) {}

StoreGroup::~StoreGroup() = default;

absl::Status StoreGroup::Connect(int member, const StoreAddress& store,
                                 Done done) {
  Impl::Member& at = impl_->members[member];
  at.connected = false;
  impl_->sessions->SetAlive(member, false);
  return at.client->Connect(
      store,
      [impl = impl_.get(), member,
       done = std::move(done)](const absl::Status& hello) {
        if (hello.ok()) {
          Impl::Member& at = impl->members[member];
          at.connected = true;
          at.silent = at.lagging = false;
          at.heard = impl->clock->Now();
          at.probes_owed = 0;
        }
        if (done) done(hello);
      });
}

void StoreGroup::Drop(int member, const absl::Status& why) {
  Impl::Member& at = impl_->members[member];
  if (at.connected && !at.silent) ++impl_->counters.stores_lost;
  at.connected = false;
  impl_->sessions->SetAlive(member, false);
  impl_->shared.Drop(member, why);
}

void StoreGroup::SetOnLost(std::function<void(int member)> on_lost) {
  impl_->on_lost = std::move(on_lost);
}

bool StoreGroup::IsUp(int member) const { return impl_->IsUp(member); }

bool StoreGroup::IsConnected(int member) const {
  return impl_->members[member].connected;
}

DataClient* StoreGroup::client(int member) {
  return impl_->members[member].client.get();
}

bool StoreGroup::IsHolding() {
  return members() == 1 && client(0)->IsHolding();
}

int StoreGroup::Progress() {
  int events = impl_->shared.Progress();
  impl_->shared.BeginRound();
  for (auto& member : impl_->members) events += member.client->Progress();
  impl_->shared.EndRound();
  events += impl_->RunDeferred() + impl_->EndLateProbes();
  impl_->CheckMembers();
  return events;
}

void StoreGroup::Wait(Nanos timeout) {
  if (!impl_->deferred.empty()) return;
  impl_->shared.BeginRound();
  for (auto& member : impl_->members) member.client->Wait(timeout);
  timeout = std::min(timeout, impl_->shared.EndRound());
  if (!impl_->probes.empty()) {
    timeout = std::min(timeout, impl_->probes.front()->deadline -
                                    impl_->clock->Now());
  }
  if (members() > 1 && requests_in_flight() > 0) {
    timeout = std::min(timeout, kStoreCheckInterval);
  }
  if (timeout > 0) impl_->shared.Wait(timeout);
}

int StoreGroup::requests_in_flight() const {
  int requests = 0;
  for (auto& member : impl_->members) {
    requests += member.client->requests_in_flight();
  }
  return requests;
}

DataClientCounters StoreGroup::counters() const {
  DataClientCounters sum;
  for (auto& member : impl_->members) Add(member.client->counters(), &sum);
  return sum;
}

const StoreGroupCounters& StoreGroup::group_counters() const {
  return impl_->counters;
}

std::string StoreGroup::TransportName() const {
  for (auto& member : impl_->members) {
    std::string name = member.client->TransportName();
    if (!name.empty()) return name;
  }
  return "";
}

int StoreGroup::members() const {
  return static_cast<int>(impl_->members.size());
}

}  // namespace forecache
