// A peer in another process is killed in the middle of traffic.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/check.h"
#include "gtest/gtest.h"
#include "tests/transport/testing.h"
#include "transport/ucx_transport.h"

namespace forecache {
namespace {

constexpr char kPeerVariable[] = "FORECACHE_TEST_PEER";
constexpr Nanos kBound = 10 * kSecond;  // for all that a death may cost

std::unique_ptr<Transport> Open(const std::string& transports) {
  UcxOptions options;
  options.transports = transports;
  auto transport = OpenUcxTransport(options);
  FC_CHECK_OK(transport.status());
  return *std::move(transport);
}

// The other process: answers each message with its own payload, for ever.
[[noreturn]] void RunPeer(const std::string& transports) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  Node node(Open(transports));
  node.heard.keep = false;
  const std::string answer = Pattern(100000, 1);
  node.heard.on_message = [&](Endpoint* from, ByteView header, ByteView) {
    (void)from->Send(header, ToBytes(answer), nullptr);
  };
  const std::string address = node.transport->Address();
  const uint32_t size = address.size();
  FC_CHECK(write(3, &size, sizeof(size)) == sizeof(size));
  FC_CHECK(write(3, address.data(), size) == size);
  while (true) {
    if (node.transport->Progress() == 0) node.transport->Wait(kSecond);
  }
}

// This test's own program, started anew as a peer.
//
// Threads: one.
class PeerProcess {
 public:
  explicit PeerProcess(const std::string& transports) {
    int ends[2];
    FC_CHECK(pipe(ends) == 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], 3);
      setenv(kPeerVariable, transports.c_str(), 1);
      execl("/proc/self/exe", "peer", nullptr);
      _exit(127);
    }
    close(ends[1]);
    uint32_t size = 0;
    FC_CHECK(read(ends[0], &size, sizeof(size)) == sizeof(size));
    while (address_.size() < size) {
      char bytes[4096];
      const ssize_t count = read(ends[0], bytes, sizeof(bytes));
      FC_CHECK(count > 0);
      address_.append(bytes, count);
    }
    close(ends[0]);
  }
  ~PeerProcess() { Kill(); }

  void Kill() {
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }
  const std::string& address() const { return address_; }

 private:
  pid_t pid_ = -1;
  std::string address_;
};

class PeerDeathTest : public testing::TestWithParam<const char*> {
 protected:
  // A round trip, so that the endpoint is wired up.
  void Meet(Endpoint* peer) {
    const size_t before = node_.heard.count;
    ASSERT_TRUE(peer->Send({}, ToBytes("hello"), nullptr).ok());
    ASSERT_TRUE(Pump({&node_}, [&] { return node_.heard.count > before; }));
  }

  Node node_{Open(GetParam())};
};

TEST_P(PeerDeathTest, KilledInTraffic) {
  auto victim = std::make_unique<PeerProcess>(GetParam());
  PeerProcess survivor(GetParam());
  auto to_victim = node_.transport->Connect(victim->address());
  auto to_survivor = node_.transport->Connect(survivor.address());
  ASSERT_TRUE(to_victim.ok() && to_survivor.ok());
  Meet(*to_victim);
  Meet(*to_survivor);
  node_.heard.keep = false;
  EXPECT_EQ((*to_victim)->TransportName(),
            std::string(GetParam()) == "tcp" ? "tcp" : "shm");

  const std::string payload = Pattern(256 << 10, 2);
  int accepted = 0;
  int ended = 0;
  for (int i = 0; i < 200; ++i) {
    const size_t size = i % 2 == 0 ? payload.size() : 100;
    accepted += (*to_victim)->Send({}, ToBytes(payload).subspan(0, size),
                                   [&](const absl::Status&) { ++ended; }).ok();
    node_.transport->Progress();
  }
  EXPECT_EQ(accepted, 200);
  const Nanos start = Clock::Real()->Now();
  victim->Kill();
  EXPECT_TRUE(Pump({&node_}, [&] {
    return ended == accepted && !node_.heard.gone.empty();
  }, kBound)) << ended << " of " << accepted << " ended, "
              << node_.heard.gone.size() << " gone";
  ASSERT_EQ(node_.heard.gone.size(), 1);
  EXPECT_EQ(node_.heard.gone[0].first, *to_victim);
  EXPECT_EQ(node_.heard.gone[0].second.code(), absl::StatusCode::kUnavailable)
      << node_.heard.gone[0].second;
  printf("told after %.0f ms\n", (Clock::Real()->Now() - start) * 1e-6);

  // Nobody else noticed.
  Meet(*to_survivor);
  EXPECT_EQ(node_.heard.gone.size(), 1);
}

TEST_P(PeerDeathTest, ClosingADeadPeerEnds) {
  PeerProcess victim(GetParam());
  auto to_victim = node_.transport->Connect(victim.address());
  ASSERT_TRUE(to_victim.ok());
  Meet(*to_victim);
  victim.Kill();
  const std::string payload = Pattern(256 << 10, 2);
  int accepted = 0;
  int ended = 0;
  // More than any queue on the way holds.
  for (int i = 0; i < 2000; ++i) {
    accepted += (*to_victim)->Send({}, ToBytes(payload),
                                   [&](const absl::Status&) { ++ended; }).ok();
  }
  const Nanos start = Clock::Real()->Now();
  node_.transport->Close(*to_victim);
  EXPECT_TRUE(Pump({&node_}, [&] { return ended == accepted; }, kBound));
  node_.transport.reset();
  EXPECT_EQ(ended, accepted);
  EXPECT_LT(Clock::Real()->Now() - start, kBound);
}

TEST_P(PeerDeathTest, APeerThatIsNotThereBlocksNobody) {
  PeerProcess victim(GetParam());
  const std::string address = victim.address();
  victim.Kill();
  auto to_victim = node_.transport->Connect(address);
  int accepted = 0;
  int ended = 0;
  if (to_victim.ok()) {
    accepted += (*to_victim)->Send({}, ToBytes("anyone?"),
                                   [&](const absl::Status&) { ++ended; }).ok();
    (void)Pump({&node_}, [&] { return !node_.heard.gone.empty(); },
               3 * kSecond);
  }
  const Nanos start = Clock::Real()->Now();
  node_.transport.reset();
  EXPECT_LT(Clock::Real()->Now() - start, kBound);
  EXPECT_EQ(ended, accepted);
}

INSTANTIATE_TEST_SUITE_P(Ucx, PeerDeathTest, testing::Values("all", "tcp"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) {
  if (const char* transports = getenv(forecache::kPeerVariable)) {
    forecache::RunPeer(transports);
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
