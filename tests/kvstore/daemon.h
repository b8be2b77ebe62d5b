// The store's binary as a process, and a worker that uses it over UCX.
#ifndef FORECACHE_TESTS_KVSTORE_DAEMON_H_
#define FORECACHE_TESTS_KVSTORE_DAEMON_H_

#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/clock.h"
#include "kvstore/client/control_client.h"
#include "kvstore/client/data_client.h"
#include "transport/ucx_transport.h"

namespace forecache {

inline constexpr char kBinary[] = "kvstore/store";

inline std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The value of a field of the ready file, quotes left out.
inline std::string FieldOf(const std::string& json, const std::string& name) {
  size_t at = json.find("\"" + name + "\":");
  if (at == std::string::npos) return "";
  size_t begin = at + name.size() + 3;
  size_t end = json.find_first_of(",}", begin);
  std::string value = json.substr(begin, end - begin);
  if (value.size() > 1 && value[0] == '"') {
    value = value.substr(1, value.size() - 2);
  }
  return value;
}

// A process of the binary, its stderr in a file.
//
// Threads: one thread.
class Daemon {
 public:
  explicit Daemon(std::vector<std::string> flags) {
    static int number = 0;
    prefix_ = std::string(std::getenv("TEST_TMPDIR")) + "/store" +
              std::to_string(++number);
    flags.insert(flags.begin(), kBinary);
    // Sessions that a test leaves open are not waited for, unless it says so.
    if (std::none_of(flags.begin(), flags.end(), [](const std::string& flag) {
          return flag.starts_with("--drain-seconds");
        })) {
      flags.push_back("--drain-seconds=0");
    }
    flags.push_back("--insecure");
    flags.push_back("--ready-file=" + prefix_ + ".ready");
    std::vector<char*> argv;
    for (std::string& flag : flags) argv.push_back(flag.data());
    argv.push_back(nullptr);
    const std::string log = prefix_ + ".log";
    // The ready file comes by a rename.
    arrivals_ = inotify_init1(IN_CLOEXEC);
    FC_CHECK(inotify_add_watch(arrivals_, std::getenv("TEST_TMPDIR"),
                               IN_MOVED_TO) >= 0);
    pid_ = fork();
    FC_CHECK(pid_ >= 0);
    if (pid_ == 0) {
      if (std::freopen(log.c_str(), "w", stderr) == nullptr) _exit(99);
      execv(kBinary, argv.data());
      _exit(98);
    }
  }
  ~Daemon() {
    close(arrivals_);
    if (pid_ <= 0) return;
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  // The ready file, "" when the process ended or ten seconds passed.
  std::string Ready() {
    Nanos end = Clock::Real()->Now() + 10 * kSecond;
    while (Clock::Real()->Now() < end) {
      std::string ready = ReadFile(prefix_ + ".ready");
      if (!ready.empty()) return ready;
      int status = 0;
      if (waitpid(pid_, &status, WNOHANG) == pid_) {
        pid_ = -1;
        return "";
      }
      pollfd wake{arrivals_, POLLIN, 0};
      poll(&wake, 1, 50);  // the process may also end
    }
    return "";
  }
  // The memory that it holds now.
  size_t ResidentBytes() const {
    std::istringstream statm(
        ReadFile("/proc/" + std::to_string(pid_) + "/statm"));
    size_t mapped = 0, resident = 0;
    statm >> mapped >> resident;
    return resident * sysconf(_SC_PAGESIZE);
  }
  // The exit code; -1 when a signal ended it.
  int Join() {
    int status = 0;
    FC_CHECK(waitpid(pid_, &status, 0) == pid_);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  void Signal(int number) { kill(pid_, number); }
  std::string Log() const { return ReadFile(prefix_ + ".log"); }

 private:
  std::string prefix_;
  int arrivals_ = -1;
  pid_t pid_ = -1;
};

// A worker: a transport, both clients and a count of what is under way.
//
// Threads: one thread.
class Worker {
 public:
  explicit Worker(const std::string& address)
      : control(address),
        transport_(*OpenUcxTransport({})),
        client(transport_.get(), Clock::Real()) {
    auto store = control.Attach("test");
    FC_CHECK_OK(store.status());
    Run(client.Connect(*store, Done()));
  }

  // A callback that is waited for.
  DataClient::Done Done() {
    ++under_way_;
    return [this](const absl::Status& got) {
      --under_way_;
      EXPECT_EQ(got, absl::OkStatus());
    };
  }
  // Waits for all of them, about ten seconds at most.
  void Run(const absl::Status& started) {
    FC_CHECK_OK(started);
    Nanos end = Clock::Real()->Now() + 10 * kSecond;
    while (under_way_ > 0 && Clock::Real()->Now() < end) {
      if (client.Progress() == 0) client.Wait(kMillisecond);
    }
    EXPECT_EQ(under_way_, 0);
  }

  ControlClient control;

 private:
  int under_way_ = 0;
  std::unique_ptr<Transport> transport_;

 public:
  DataClient client;  // ends before its transport
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_DAEMON_H_
