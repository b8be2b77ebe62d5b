#include "bench/ucx_perftest.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/status.h"

namespace forecache {
namespace {

constexpr char kProgram[] = "ucx_perftest";
constexpr Nanos kPoll = 5 * kMillisecond;
constexpr int kPortTries = 5;
constexpr uint64_t kPilotIterations = 64;
// Of the best pilot's rate: what is below is not run at length.
constexpr double kHopeful = 0.2;
constexpr uint64_t kIterationsMin = 64;
constexpr uint64_t kIterationsMax = 2'000'000;
constexpr int kListening = 0x0A;  // in /proc/net/tcp

// A child that is dead and reaped when this goes.
//
// Threads: one.
class Child {
 public:
  Child() = default;
  ~Child() {
    if (pid_ > 0) {
      kill(pid_, SIGKILL);
      waitpid(pid_, nullptr, 0);
    }
    if (output_ >= 0) close(output_);
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  absl::Status Start(const std::vector<std::string>& arguments,
                     const std::string& transports, int core);
  // Until it has ended; what it printed.
  absl::StatusOr<std::string> Finish(Nanos deadline);
  bool Running() {
    if (pid_ <= 0) return false;
    if (waitpid(pid_, &status_, WNOHANG) == 0) return true;
    pid_ = -1;
    return false;
  }

 private:
  pid_t pid_ = -1;
  int output_ = -1;
  int status_ = 0;
};

absl::Status Child::Start(const std::vector<std::string>& arguments,
                          const std::string& transports, int core) {
  // All that needs memory comes before the fork: the caller may have threads.
  std::vector<std::string> environment = {"UCX_TLS=" + transports};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (strncmp(*entry, "UCX_TLS=", 8) != 0) environment.push_back(*entry);
  }
  auto pointers = [](const std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (const auto& each : strings) {
      result.push_back(const_cast<char*>(each.c_str()));
    }
    result.push_back(nullptr);
    return result;
  };
  const std::vector<char*> argv = pointers(arguments);
  const std::vector<char*> envp = pointers(environment);
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (core >= 0) CPU_SET(core, &cores);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return absl::ErrnoToStatus(errno, "pipe");
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    if (core >= 0) sched_setaffinity(0, sizeof(cores), &cores);
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    execvpe(kProgram, argv.data(), envp.data());
    _exit(errno == ENOENT ? 126 : 127);
  }
  close(ends[1]);
  output_ = ends[0];
  if (pid_ < 0) return absl::ErrnoToStatus(errno, "fork");
  return absl::OkStatus();
}

absl::StatusOr<std::string> Child::Finish(Nanos deadline) {
  std::string text;
  while (true) {
    const Nanos left = deadline - Clock::Real()->Now();
    if (left <= 0) {
      return absl::DeadlineExceededError("ucx_perftest takes too long");
    }
    pollfd ready = {output_, POLLIN, 0};
    poll(&ready, 1, static_cast<int>(left / kMillisecond) + 1);
    if (ready.revents == 0) continue;
    char bytes[4096];
    const ssize_t count = read(output_, bytes, sizeof(bytes));
    if (count > 0) text.append(bytes, count);
    if (count == 0) break;
  }
  while (Running()) {
    if (Clock::Real()->Now() > deadline) {
      return absl::DeadlineExceededError("ucx_perftest does not end");
    }
    Clock::Real()->SleepFor(kPoll / 5);
  }
  if (WIFEXITED(status_) && WEXITSTATUS(status_) == 126) {
    return absl::NotFoundError(
        "ucx_perftest is not installed (Debian: apt-get install ucx-utils)");
  }
  if (status_ != 0) {
    return absl::UnavailableError(absl::StrCat(
        "ucx_perftest failed: ", text.substr(0, std::min<size_t>(300,
                                                                text.size()))));
  }
  return text;
}

// A port that nobody listens on; the next moment somebody may.
absl::StatusOr<int> FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return absl::ErrnoToStatus(errno, "socket");
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  const bool bound =
      bind(fd, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  close(fd);
  if (!bound) return absl::ErrnoToStatus(errno, "bind");
  return ntohs(address.sin_port);
}

// A try to connect would be taken for the client, so the kernel is asked.
bool Listens(int port) {
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream file(table);
    std::string line;
    std::getline(file, line);
    while (std::getline(file, line)) {
      const std::vector<std::string> columns =
          absl::StrSplit(line, ' ', absl::SkipEmpty());
      if (columns.size() < 4) continue;
      const size_t colon = columns[1].find(':');
      if (colon == std::string::npos) continue;
      if (std::stoi(columns[1].substr(colon + 1), nullptr, 16) == port &&
          std::stoi(columns[3], nullptr, 16) == kListening) {
        return true;
      }
    }
  }
  return false;
}

// The last line that ucx_perftest prints with -v: "iterations,
// 50.0_percentile_lat,avg_lat,overall_lat,avg_bw,overall_bw,avg_mr,overall_mr"
// with microseconds and MiB/s.
absl::StatusOr<UcxPerftestResult> Parse(const std::string& test,
                                        const std::string& text) {
  const std::vector<std::string> lines =
      absl::StrSplit(text, '\n', absl::SkipEmpty());
  for (auto line = lines.rbegin(); line != lines.rend(); ++line) {
    const std::vector<std::string> fields = absl::StrSplit(*line, ',');
    double latency, rate;
    if (fields.size() != 8 || !absl::SimpleAtod(fields[3], &latency) ||
        !absl::SimpleAtod(fields[5], &rate)) {
      continue;
    }
    return UcxPerftestResult{test, rate * (1 << 20), latency};
  }
  return absl::UnavailableError(
      absl::StrCat("ucx_perftest printed no figure: ", text));
}

absl::StatusOr<UcxPerftestResult> RunAt(int port,
                                        const UcxPerftestOptions& options,
                                        uint64_t iterations, Nanos deadline) {
  Child server, client;
  FC_RETURN_IF_ERROR(server.Start({kProgram, "-p", absl::StrCat(port)},
                                  options.transports, options.server_core));
  while (!Listens(port)) {
    if (!server.Running()) {
      auto told = server.Finish(deadline);
      return told.ok() ? absl::UnavailableError("ucx_perftest's server ended")
                       : told.status();
    }
    if (Clock::Real()->Now() > deadline) {
      return absl::DeadlineExceededError("ucx_perftest does not listen");
    }
    Clock::Real()->SleepFor(kPoll);
  }
  const uint64_t warmup = std::max<uint64_t>(8, iterations / 10);
  FC_RETURN_IF_ERROR(client.Start(
      {kProgram, "127.0.0.1", "-p", absl::StrCat(port), "-t", options.test,
       "-s", absl::StrCat(options.size), "-n", absl::StrCat(iterations), "-w",
       absl::StrCat(warmup), "-f", "-v"},
      options.transports, options.client_core));
  FC_ASSIGN_OR_RETURN(const std::string text, client.Finish(deadline));
  return Parse(options.test, text);
}

// Again with another port when somebody took the free one first.
absl::StatusOr<UcxPerftestResult> RunOnce(const UcxPerftestOptions& options,
                                          uint64_t iterations,
                                          Nanos deadline) {
  absl::StatusOr<UcxPerftestResult> result;
  for (int i = 0; i < kPortTries; ++i) {
    FC_ASSIGN_OR_RETURN(const int port, FreePort());
    result = RunAt(port, options, iterations, deadline);
    if (!absl::StrContains(result.status().message(), "already in use")) break;
  }
  return result;
}

}  // namespace

absl::StatusOr<UcxPerftestResult> RunUcxPerftest(
    const UcxPerftestOptions& options) {
  const Nanos deadline = Clock::Real()->Now() + options.timeout;
  uint64_t iterations = options.iterations;
  if (iterations == 0) {
    FC_ASSIGN_OR_RETURN(const UcxPerftestResult pilot,
                        RunOnce(options, kPilotIterations, deadline));
    const double rate = pilot.bytes_per_second / std::max<size_t>(
                                                     1, options.size);
    iterations = std::clamp(static_cast<uint64_t>(rate * options.seconds),
                            kIterationsMin, kIterationsMax);
  }
  return RunOnce(options, iterations, deadline);
}

const std::vector<std::string>& UcxBandwidthTests() {
  static const auto* const tests = new std::vector<std::string>{
      "ucp_am_bw", "stream_bw", "tag_bw", "ucp_put_bw", "ucp_get"};
  return *tests;
}

const std::vector<std::string>& UcxMessageTests() {
  static const auto* const tests =
      new std::vector<std::string>{"ucp_am_bw", "stream_bw", "tag_bw"};
  return *tests;
}

absl::StatusOr<UcxPerftestResult> BestUcxPerftest(
    const std::vector<std::string>& tests, UcxPerftestOptions options) {
  absl::StatusOr<UcxPerftestResult> best =
      absl::InvalidArgumentError("no test to run");
  auto run = [&](const std::string& test, uint64_t iterations) {
    options.test = test;
    options.iterations = iterations;
    auto result = RunUcxPerftest(options);
    const bool better =
        result.ok() &&
        (!best.ok() || result->bytes_per_second > best->bytes_per_second);
    if (better || !best.ok()) best = result;
    return result;
  };
  const uint64_t iterations = options.iterations;
  std::vector<UcxPerftestResult> pilots;
  for (const std::string& test : tests) {
    auto pilot = run(test, std::min(kPilotIterations, iterations == 0
                                                          ? kPilotIterations
                                                          : iterations));
    if (absl::IsNotFound(pilot.status())) return pilot;
    if (pilot.ok()) pilots.push_back(*std::move(pilot));
  }
  if (!best.ok()) return best;
  // A short run flatters nobody: it has a connection's start in it.
  const double hopeful = best->bytes_per_second * kHopeful;
  best = absl::UnavailableError("no test ended");
  for (const UcxPerftestResult& pilot : pilots) {
    if (pilot.bytes_per_second >= hopeful) {
      (void)run(pilot.test, iterations);
    }
  }
  return best;
}

}  // namespace forecache
