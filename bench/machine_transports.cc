// What UCX finds on this machine, and how fast it is between two processes.

#include <signal.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/machine.h"
#include "bench/transport_pair.h"
#include "common/status.h"
#include "transport/ucx_transport.h"

namespace forecache {
namespace {

constexpr Nanos kMeasure = 250 * kMillisecond;  // of each path
constexpr size_t kMessage = 256 << 10;          // as a store pushes
constexpr int kBurst = 64;
constexpr int kTrips = 500;

// "9.1 GB/s in messages of 256K, round trip 0.7 us": the best of the time.
absl::StatusOr<std::string> Measure(TransportPair& pair) {
  FC_RETURN_IF_ERROR(pair.Open());
  double rate = 0;
  const Nanos start = Clock::Real()->Now();
  while (Clock::Real()->Now() - start < kMeasure) {
    FC_ASSIGN_OR_RETURN(double seconds, pair.Stream(kMessage, kBurst, 16));
    rate = std::max(rate, 1e-9 * kMessage * kBurst / seconds);
  }
  FC_ASSIGN_OR_RETURN(auto times, pair.RoundTrips(64, 64, kTrips));
  std::nth_element(times.begin(), times.begin() + kTrips / 2, times.end());
  return absl::StrFormat("%.1f GB/s in messages of 256K, round trip %.1f us",
                         rate, times[kTrips / 2]);
}

Finding FindPath(TransportPair& pair, bool tcp_only) {
  Finding found = {tcp_only ? "tcp" : "same host", FindingLevel::kOk, "", ""};
  const absl::StatusOr<std::string> measured = Measure(pair);
  if (!measured.ok()) {
    found.level = tcp_only ? FindingLevel::kMissing : FindingLevel::kWarn;
    found.value = measured.status().ToString();
    found.fix = "see UCX_TLS and UCX_NET_DEVICES in the environment, and "
                "ucx_info -d";
    return found;
  }
  found.value = absl::StrCat(pair.TransportName(), ", ", *measured);
  if (!tcp_only && pair.TransportName() == "tcp") {
    found.level = FindingLevel::kWarn;
    found.fix = "peers on this host talk TCP: let them share /dev/shm and the "
                "IPC and PID namespaces, and unset UCX_TLS";
  }
  return found;
}

// Whether two processes can map the memory that their messages pass through.
Finding FindMailbox(TransportPair& pair) {
  Finding found = {"mailboxes", FindingLevel::kOk, "shared", ""};
  const absl::Status status = pair.MailboxStatus();
  if (!status.ok()) {
    found.level = FindingLevel::kWarn;
    found.value = status.ToString();
    found.fix = "messages on this host pass UCX's own queue, at a fraction of "
                "the rate: run both daemons as one user in one PID namespace";
  }
  return found;
}

// Whether a process may read another's memory, as UCX does for large messages
// on one host.
Finding FindCma() {
  static int secret = 42;
  Finding found = {"CMA", FindingLevel::kOk, "allowed", ""};
  const pid_t child = fork();
  if (child == 0) {
    pause();
    _exit(0);
  }
  int copy = 0;
  const iovec local = {&copy, sizeof(copy)};
  const iovec remote = {&secret, sizeof(secret)};
  const bool read = process_vm_readv(child, &local, 1, &remote, 1, 0) ==
                    static_cast<ssize_t>(sizeof(copy));
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  if (!read) {
    found.level = FindingLevel::kNote;
    found.value = "refused";
    found.fix = "large messages on one host are copied once more: allow "
                "process_vm_readv (CAP_SYS_PTRACE, seccomp, ptrace_scope)";
  }
  return found;
}

}  // namespace

void FindTransports(Findings& findings) {
  findings.push_back({"UCX", FindingLevel::kOk, UcxVersion(), ""});
  UcxOptions tcp;
  tcp.transports = "tcp";
  // Both are forked before this process opens UCX.
  auto any_pair = TransportPair::Fork({});
  auto tcp_pair = TransportPair::Fork(tcp);
  if (!any_pair.ok() || !tcp_pair.ok()) {
    findings.push_back({"same host", FindingLevel::kWarn, "fork failed",
                        "raise the limit on processes (ulimit -u)"});
    return;
  }
  findings.push_back(FindPath(**any_pair, /*tcp_only=*/false));
  if (findings.back().level == FindingLevel::kOk) {
    findings.push_back(FindMailbox(**any_pair));
  }
  findings.push_back(FindPath(**tcp_pair, /*tcp_only=*/true));
  findings.push_back(FindCma());

  std::error_code error;
  Finding found = {"RDMA", FindingLevel::kNote,
                   "/dev/infiniband is there, but Forecache was never run on "
                   "RDMA",
                   "compare `./forecache bench transport` with ib_write_bw"};
  if (!std::filesystem::exists("/dev/infiniband", error)) {
    found.level = FindingLevel::kNote;
    found.value = "no device";
    found.fix = "none needed on one host; between hosts TCP is what is left";
  }
  findings.push_back(found);
}

}  // namespace forecache
