#include "tests/e2e/fixture.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "common/clock.h"

namespace forecache::e2e {

Ended RunToEnd(const std::vector<std::string>& arguments, int timeout_s) {
  int fds[2];
  if (pipe(fds) != 0) return {};
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(fds[1], STDOUT_FILENO);
    dup2(fds[1], STDERR_FILENO);
    close(fds[0]);
    close(fds[1]);
    std::vector<char*> argv;
    for (const std::string& a : arguments) {
      argv.push_back(const_cast<char*>(a.c_str()));
    }
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  close(fds[1]);
  Ended ended;
  const Nanos deadline = Clock::Real()->Now() + timeout_s * kSecond;
  char buffer[4096];
  for (;;) {
    pollfd wait{fds[0], POLLIN, 0};
    const Nanos left = deadline - Clock::Real()->Now();
    if (left <= 0 || poll(&wait, 1, int(left / kMillisecond) + 1) == 0) {
      kill(pid, SIGKILL);
      ended.output += "[killed: it ran past its time]";
      break;
    }
    const ssize_t n = read(fds[0], buffer, sizeof(buffer));
    if (n <= 0) break;
    ended.output.append(buffer, n);
  }
  close(fds[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFEXITED(status)) ended.exit_code = WEXITSTATUS(status);
  return ended;
}

std::string ModelPath() {
  const char* path = std::getenv("FORECACHE_MODEL");
  return path == nullptr ? "" : path;
}

std::string StoryText(size_t bytes) {
  std::ifstream file("demo/text.txt");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str().substr(0, bytes);
}

v1::GenerateRequest Request(const std::string& prompt, v1::Mode mode) {
  v1::GenerateRequest request;
  request.set_prompt(prompt);
  request.set_request_id("test");
  request.set_mode(mode);
  request.set_max_tokens(24);
  return request;
}

void DaemonTest::SetUp() {
  if (ModelPath().empty()) {
    GTEST_SKIP() << "FORECACHE_MODEL is not set: no model to run";
  }
  processes_ = std::make_unique<demo::Processes>();
}

void DaemonTest::StartBoth(std::vector<std::string> store_flags,
                           std::vector<std::string> worker_flags) {
  store_flags.insert(store_flags.end(), {"--dram-mib", "256"});
  absl::StatusOr<demo::Daemon> store =
      processes_->Start("store", kStoreBinary, store_flags);
  ASSERT_TRUE(store.ok()) << store.status();
  store_ = *store;
  worker_flags.insert(worker_flags.end(),
                      {"--store", store_.grpc, "--model", ModelPath()});
  absl::StatusOr<demo::Daemon> worker =
      processes_->Start("worker", kWorkerBinary, worker_flags);
  ASSERT_TRUE(worker.ok()) << worker.status();
  worker_ = *worker;
  client_ = std::make_unique<demo::Client>(worker_.grpc, store_.grpc);
}

}  // namespace forecache::e2e
