#include "demo/processes.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "common/check.h"
#include "common/clock.h"

namespace forecache::demo {
namespace {

constexpr Nanos kStartTimeout = 60 * kSecond;
constexpr Nanos kStopTimeout = 5 * kSecond;
constexpr Nanos kPollInterval = 20 * kMillisecond;
constexpr int kLogTailBytes = 1500;

// The daemons by pid, and the folder: what an interrupt must clean up.
absl::Mutex cleanup_mutex;
// In the order of the first starts; 0: killed.
std::vector<pid_t> cleanup_pids ABSL_GUARDED_BY(cleanup_mutex);
std::string cleanup_folder ABSL_GUARDED_BY(cleanup_mutex);

std::atomic<bool> interrupted{false};

bool HasExited(pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; }

void StopAll() {
  absl::MutexLock lock(&cleanup_mutex);
  Clock* clock = Clock::Real();
  // The last one started goes first: a worker before its store.
  for (auto pid = cleanup_pids.rbegin(); pid != cleanup_pids.rend(); ++pid) {
    if (*pid == 0) continue;
    kill(*pid, SIGTERM);
    const Nanos deadline = clock->Now() + kStopTimeout;
    while (!HasExited(*pid)) {
      if (clock->Now() > deadline) {
        kill(*pid, SIGKILL);
        waitpid(*pid, nullptr, 0);
        break;
      }
      clock->SleepFor(kPollInterval);
    }
  }
  cleanup_pids.clear();
  if (!cleanup_folder.empty()) {
    std::error_code ignored;
    std::filesystem::remove_all(cleanup_folder, ignored);
  }
}

void TakeSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] {
    int signal = 0;
    sigwait(&signals, &signal);
    interrupted = true;
    const char message[] = "\ninterrupted: stopping store and worker\n";
    (void)!write(STDERR_FILENO, message, sizeof(message) - 1);
    StopAll();
    _exit(128 + signal);
  }).detach();
}

std::string Tail(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  const std::string all = text.str();
  return all.size() > kLogTailBytes ? all.substr(all.size() - kLogTailBytes)
                                    : all;
}

[[noreturn]] void RunChild(const std::string& log,
                           std::vector<std::string>* arguments, pid_t parent) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // never outlive the demo
  if (getppid() != parent) _exit(1);
  const int file = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  dup2(file, STDOUT_FILENO);
  dup2(file, STDERR_FILENO);
  std::vector<char*> argv;
  for (std::string& argument : *arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  execv(argv[0], argv.data());
  _exit(127);
}

}  // namespace

Processes::Processes() {
  const char* base = std::getenv("TMPDIR");
  folder_ = absl::StrCat(base != nullptr ? base : "/tmp", "/forecache.XXXXXX");
  FC_CHECK(mkdtemp(folder_.data()) != nullptr) << folder_;
  {
    absl::MutexLock lock(&cleanup_mutex);
    cleanup_folder = folder_;
  }
  TakeSignals();
}

Processes::~Processes() {
  while (Interrupted()) pause();
  StopAll();
}

bool Processes::Interrupted() { return interrupted; }

std::string Processes::LogPath(const std::string& name) const {
  return absl::StrCat(folder_, "/", name, ".log");
}

std::string Processes::LogTail(const std::string& name) const {
  return Tail(LogPath(name));
}

absl::StatusOr<Daemon> Processes::Start(const std::string& name,
                                        const std::string& binary,
                                        std::vector<std::string> arguments) {
  const std::string ready = absl::StrCat(folder_, "/", name, ".ready");
  arguments.insert(arguments.begin(), binary);
  // All of it is on this host, and says so loudly in the logs.
  arguments.insert(arguments.end(), {"--insecure", "--ready-file", ready});
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return absl::ResourceExhaustedError("cannot fork");
  if (pid == 0) RunChild(LogPath(name), &arguments, parent);
  const size_t place =
      std::find_if(daemons_.begin(), daemons_.end(),
                   [&](const Daemon& it) { return it.name == name; }) -
      daemons_.begin();
  if (place == daemons_.size()) daemons_.push_back({.name = name});
  {
    absl::MutexLock lock(&cleanup_mutex);
    cleanup_pids.resize(daemons_.size());
    cleanup_pids[place] = pid;
  }
  Clock* clock = Clock::Real();
  const Nanos deadline = clock->Now() + kStartTimeout;
  while (!std::filesystem::exists(ready)) {
    if (HasExited(pid) || clock->Now() > deadline) {
      return absl::UnavailableError(absl::StrCat(
          "the ", name, " did not start:\n", LogTail(name)));
    }
    clock->SleepFor(kPollInterval);
  }
  std::ifstream file(ready);
  const nlohmann::json json = nlohmann::json::parse(file);
  Daemon daemon{.name = name,
                .pid = pid,
                .grpc = json.at("grpc"),
                .metrics = json.at("metrics"),
                .admin = json.value("admin", "")};
  daemons_[place] = daemon;
  return daemon;
}

void Processes::Kill(const Daemon& daemon) {
  absl::MutexLock lock(&cleanup_mutex);
  for (size_t i = 0; i < daemons_.size(); ++i) {
    if (daemons_[i].name != daemon.name || cleanup_pids[i] == 0) continue;
    kill(cleanup_pids[i], SIGKILL);
    waitpid(cleanup_pids[i], nullptr, 0);
    cleanup_pids[i] = 0;
  }
  std::error_code ignored;
  std::filesystem::remove(
      absl::StrCat(folder_, "/", daemon.name, ".ready"), ignored);
}

std::string FetchMetrics(const std::string& address) {
  const size_t colon = address.rfind(':');
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(std::stoi(address.substr(colon + 1)));
  inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr);
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  std::string reply;
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0) {
    const std::string get =
        "GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    (void)!write(fd, get.data(), get.size());
    char buffer[4096];
    for (ssize_t n; (n = read(fd, buffer, sizeof(buffer))) > 0;) {
      reply.append(buffer, n);
    }
  }
  close(fd);
  const size_t body = reply.find("\r\n\r\n");
  return body == std::string::npos ? "" : reply.substr(body + 4);
}

size_t ResidentMemory(pid_t pid) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/statm"));
  size_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace forecache::demo
