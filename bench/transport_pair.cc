#include "bench/transport_pair.h"

#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/limits.h"
#include "common/log.h"
#include "common/status.h"

namespace forecache {
namespace {

// Before a side goes to sleep.  Long, so that what is measured is the wire and
// not the scheduler; each side has a core of its own.
constexpr Nanos kSpin = 5 * kMillisecond;
constexpr Nanos kPairTimeout = 20 * kSecond;

// What this side asks of the other, in the header of each message.
struct Ask {
  uint32_t answer_after;  // messages since the last answer; 1 is an echo
  uint32_t answer_bytes;
};

void Pin(int core) {
  if (std::thread::hardware_concurrency() < 2) return;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  CPU_SET(core, &cores);
  sched_setaffinity(0, sizeof(cores), &cores);
}

bool WriteAll(int fd, const void* data, size_t size) {
  return send(fd, data, size, MSG_NOSIGNAL) == static_cast<ssize_t>(size);
}

bool ReadAll(int fd, void* data, size_t size) {
  return recv(fd, data, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

// The forked process: answers as it is asked, until it is killed.
//
// Threads: one.
class Answerer : public MessageHandler {
 public:
  void OnMessage(Endpoint* from, ByteView header, ByteView) override {
    Ask ask;
    if (header.size() != sizeof(ask)) return;
    std::memcpy(&ask, header.data(), sizeof(ask));
    if (++received_ < ask.answer_after) return;
    received_ = 0;
    (void)from->Send({}, ByteView(payload_).subspan(0, ask.answer_bytes),
                     nullptr);
  }
  void OnDisconnect(Endpoint*, const absl::Status&) override {}

 private:
  uint32_t received_ = 0;
  const std::vector<std::byte> payload_{kMessageBytesMax, std::byte{2}};
};

[[noreturn]] void RunAnswerer(int socket, const UcxOptions& options) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Pin(1);
  Answerer answerer;
  auto transport = OpenUcxTransport(options);
  if (!transport.ok()) {
    fprintf(stderr, "%s\n", transport.status().ToString().c_str());
    _exit(1);
  }
  (*transport)->SetHandler(&answerer);
  const std::string address = (*transport)->Address();
  const uint32_t size = address.size();
  if (!WriteAll(socket, &size, sizeof(size)) ||
      !WriteAll(socket, address.data(), size)) {
    _exit(1);
  }
  Nanos last = 0;
  while (true) {
    const Nanos now = Clock::Real()->Now();
    if ((*transport)->Progress() > 0) {
      last = now;
    } else if (now - last > kSpin) {
      (*transport)->Wait(kSecond);
    }
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<TransportPair>> TransportPair::Fork(
    const UcxOptions& options) {
  int sockets[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) != 0) {
    return absl::ErrnoToStatus(errno, "socketpair");
  }
  std::unique_ptr<TransportPair> pair(new TransportPair);
  pair->options_ = options;
  pair->child_ = fork();
  if (pair->child_ < 0) return absl::ErrnoToStatus(errno, "fork");
  if (pair->child_ == 0) {
    close(sockets[0]);
    RunAnswerer(sockets[1], options);
  }
  close(sockets[1]);
  pair->socket_ = sockets[0];
  return pair;
}

TransportPair::~TransportPair() {
  if (child_ > 0) {
    kill(child_, SIGKILL);
    waitpid(child_, nullptr, 0);
  }
  transport_.reset();
  if (socket_ >= 0) close(socket_);
}

absl::Status TransportPair::Open() {
  Pin(0);
  uint32_t size = 0;
  if (!ReadAll(socket_, &size, sizeof(size)) || size > (64u << 10)) {
    return absl::UnavailableError("the measuring peer did not start");
  }
  std::string address(size, '\0');
  if (!ReadAll(socket_, address.data(), size)) {
    return absl::UnavailableError("the measuring peer sent no address");
  }
  payload_.assign(kMessageBytesMax, std::byte{1});
  FC_ASSIGN_OR_RETURN(transport_, OpenUcxTransport(options_));
  transport_->SetHandler(this);
  FC_ASSIGN_OR_RETURN(peer_, transport_->Connect(address));
  return RoundTrips(0, 0, 3).status();  // wires it up
}

void TransportPair::OnMessage(Endpoint*, ByteView, ByteView) { ++answers_; }

void TransportPair::OnDisconnect(Endpoint*, const absl::Status& why) {
  failure_ = why;
}

absl::Status TransportPair::PumpUntil(const std::function<bool()>& done) {
  const Nanos start = Clock::Real()->Now();
  Nanos last = start;
  while (!done() && failure_.ok()) {
    if (transport_->Progress() > 0) {
      last = Clock::Real()->Now();
      continue;
    }
    const Nanos now = Clock::Real()->Now();
    if (now - start > kPairTimeout) {
      return absl::DeadlineExceededError("the measuring peer is silent");
    }
    if (now - last > kSpin) transport_->Wait(kSecond);
  }
  return failure_;
}

absl::StatusOr<double> TransportPair::Stream(size_t size, int count,
                                             int window) {
  const Ask ask = {static_cast<uint32_t>(count), 0};
  answers_ = 0;
  const Nanos start = Clock::Real()->Now();
  for (int sent = 0; sent < count; ++sent) {
    FC_RETURN_IF_ERROR(PumpUntil([&] { return sending_ < window; }));
    ++sending_;
    FC_RETURN_IF_ERROR(peer_->Send(AsBytes(ask),
                                   ByteView(payload_).subspan(0, size),
                                   [this](const absl::Status& status) {
                                     --sending_;
                                     failure_.Update(status);
                                   }));
  }
  FC_RETURN_IF_ERROR(PumpUntil([&] { return answers_ == 1; }));
  return 1e-9 * (Clock::Real()->Now() - start);
}

absl::StatusOr<std::vector<double>> TransportPair::RoundTrips(size_t request,
                                                              size_t reply,
                                                              int count) {
  const Ask ask = {1, static_cast<uint32_t>(reply)};
  std::vector<double> times_us;
  for (int i = 0; i < count; ++i) {
    answers_ = 0;
    const Nanos start = Clock::Real()->Now();
    FC_RETURN_IF_ERROR(peer_->Send(
        AsBytes(ask), ByteView(payload_).subspan(0, request), nullptr));
    FC_RETURN_IF_ERROR(PumpUntil([&] { return answers_ == 1; }));
    times_us.push_back(1e-3 * (Clock::Real()->Now() - start));
  }
  return times_us;
}

absl::Status TransportPair::MailboxStatus() {
  const Ask ask = {1, 0};
  answers_ = 0;
  FC_RETURN_IF_ERROR(peer_->SendBy(TransportOperation::kMailbox, AsBytes(ask),
                                   {}, nullptr));
  return PumpUntil([&] { return answers_ == 1; });
}

}  // namespace forecache
