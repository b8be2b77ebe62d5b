#include "worker/data_plane_thread.h"

#include <pthread.h>

#include <chrono>
#include <future>
#include <memory>
#include <utility>

#include "absl/synchronization/notification.h"
#include "common/limits.h"
#include "common/status.h"

namespace forecache {

DataPlaneThread::DataPlaneThread(std::unique_ptr<Transport> transport,
                                 Clock* clock, GroupSessions* sessions)
    : clock_(clock),
      transport_(std::move(transport)),
      client_(std::make_unique<StoreGroup>(transport_.get(), clock,
                                           sessions)) {
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "dataplane");
    Loop();
  });
}

DataPlaneThread::~DataPlaneThread() {
  stop_ = true;
  transport_->Wake();
  thread_.join();
  client_.reset();
}

std::future<absl::Status> DataPlaneThread::Ask(
    const std::function<absl::Status(DataClient::Done)>& start) {
  // Not absl::Notification, whose timeout follows the wall clock.
  auto answer = std::make_shared<std::promise<absl::Status>>();
  Run([&] {
    const absl::Status started = start(
        [answer](const absl::Status& status) { answer->set_value(status); });
    if (!started.ok()) answer->set_value(started);
  });
  return answer->get_future();
}

absl::Status DataPlaneThread::Connect(int member,
                                      const StoreAddress& store) {
  auto answered = Ask([&](DataClient::Done done) {
    return client_->Connect(member, store, std::move(done));
  });
  if (answered.wait_for(std::chrono::nanoseconds(kConnectTimeout)) !=
      std::future_status::ready) {
    return absl::UnavailableError(
        "data plane: the store did not answer a hello in time");
  }
  FC_RETURN_IF_ERROR(Annotate(answered.get(), "data plane"));
  Run([this] {
    std::string name = client_->TransportName();
    absl::MutexLock lock(&mutex_);
    transport_name_ = std::move(name);
  });
  return absl::OkStatus();
}

absl::Status DataPlaneThread::Restore(uint64_t session,
                                      const SessionHandle& now,
                                      std::span<const uint32_t> held) {
  auto ended = Ask([&](DataClient::Done done) {
    client_->lone()->Restore(session, now, held, std::move(done));
    return absl::OkStatus();
  });
  return ended.get();  // at the latest at the puts' deadlines
}

GroupDataPlane DataPlaneThread::ForControl() {
  return {
      .connect =
          [this](int member, const StoreAddress& store) {
            return Connect(member, store);
          },
      .drop =
          [this](int member, const absl::Status& why) {
            Run([&] { client_->Drop(member, why); });
          },
      .restore =
          [this](uint64_t session, const SessionHandle& now,
                 std::span<const uint32_t> held) {
            return Restore(session, now, held);
          },
      .go_on = [this] { Run([this] { client_->lone()->GoOn(); }); },
      .fail_session =
          [this](uint64_t session, const absl::Status& why) {
            Run([&] { client_->lone()->FailSession(session, why); });
          },
      .durable =
          [this](uint64_t session, int segments) {
            Post([=, this] { client_->lone()->Durable(session, segments); });
          },
      .forget =
          [this](uint64_t session) {
            Post([=, this] { client_->lone()->Forget(session); });
          },
      .set_on_lost =
          [this](std::function<void(int)> on_lost) {
            Run([&] { client_->SetOnLost(std::move(on_lost)); });
          }};
}

void DataPlaneThread::Post(std::function<void()> command) {
  {
    absl::MutexLock lock(
        &mutex_, absl::Condition(this, &DataPlaneThread::HasRoom));
    commands_.push_back(std::move(command));
  }
  transport_->Wake();
}

void DataPlaneThread::Run(std::function<void()> command) {
  absl::Notification done;
  Post([&] {
    command();
    done.Notify();
  });
  done.WaitForNotification();
}

std::string DataPlaneThread::transport_name() const {
  absl::MutexLock lock(&mutex_);
  return transport_name_;
}

DataClientCounters DataPlaneThread::Counters() {
  DataClientCounters counters;
  Run([&] { counters = client_->counters(); });
  return counters;
}

StoreGroupCounters DataPlaneThread::GroupCounters() {
  StoreGroupCounters counters;
  Run([&] { counters = client_->group_counters(); });
  return counters;
}

bool DataPlaneThread::RunCommands() {
  std::deque<std::function<void()>> commands;
  {
    absl::MutexLock lock(&mutex_);
    commands.swap(commands_);
  }
  for (auto& command : commands) {
    command();
    client_->Progress();
  }
  return !commands.empty();
}

void DataPlaneThread::Loop() {
  // After something happened, more is likely at once: look again for a moment
  // before sleeping, which costs a system call and a wake-up.
  constexpr Nanos kLinger = 20 * kMicrosecond;
  Nanos linger_until = 0;
  for (;;) {
    const bool stopping = stop_.load();
    const bool busy = RunCommands() | (client_->Progress() > 0);
    holding_.store(client_->IsHolding(), std::memory_order_relaxed);
    if (busy) {
      linger_until = clock_->Now() + kLinger;
      continue;
    }
    if (stopping) return;
    if (clock_->Now() < linger_until) continue;
    client_->Wait(100 * kMillisecond);
  }
}

}  // namespace forecache
