// The store's binary: flags, ready file, a worker over UCX, metrics, signals.
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "common/check.h"
#include "kvstore/client/control_client.h"
#include "tests/kvstore/context.h"
#include "transport/probed_transport.h"
#include "transport/ucx_transport.h"

namespace forecache {
namespace {

constexpr char kBinary[] = "kvstore/store";

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// The value of a field of the ready file, quotes left out.
std::string FieldOf(const std::string& json, const std::string& name) {
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

class CountingSink : public BlockSink {
 public:
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    ++blocks;
  }
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override {
    ++failed;
  }
  int blocks = 0;
  int failed = 0;
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

// Puts and seals four segments, fetches and scores them.
void UseStore(const std::string& address) {
  Worker worker(address);
  TestContext context(1, 4);
  std::vector<int32_t> tokens(context.tokens().begin(),
                              context.tokens().end());
  ModelFingerprint model{"00ff", "llama", kTestGeometry, 10000.0f};
  auto opened = worker.control.OpenSession(model, tokens, "request");
  ASSERT_TRUE(opened.ok()) << opened.status();
  for (int layer : {0, 1}) {
    worker.Run(worker.client.PutBlocks(opened->handle, layer, 0, 64,
                                       context.PutPayload(layer, 0, 64),
                                       worker.Done()));
  }
  for (int segment = 0; segment < 4; ++segment) {
    auto of_segment = std::span(tokens).subspan(segment * 256, 256);
    ASSERT_EQ(worker.control.SealSegment(opened->handle, segment, of_segment),
              absl::OkStatus());
  }
  CountingSink sink;
  worker.Run(worker.client
                 .Fetch(opened->handle, 1, AllEntries(kTestGeometry, 64),
                        &sink, worker.Done())
                 .status());
  EXPECT_EQ(sink.blocks, 128);
  EXPECT_EQ(sink.failed, 0);
  std::vector<float> q(2 * 2 * 32, 0.5f);
  worker.Run(worker.client.Probe(
      opened->handle, 0, 64, 0.1f, q,
      [done = worker.Done()](const absl::StatusOr<ProbeResult>& got) {
        done(got.status());
      }).status());
  EXPECT_EQ(*worker.control.LookupPrefix(model, tokens), 1024);
}

TEST(StoreDaemonTest, ServesAWorkerOverUcx) {
  Daemon daemon({"--dram-mib=64"});
  std::string ready = daemon.Ready();
  ASSERT_FALSE(ready.empty()) << daemon.Log();
  UseStore(FieldOf(ready, "grpc"));
  // Not curl: a fresh machine has none, and set-up does not need one.
  const std::string fetch =
      "python3 -c 'import urllib.request as r; "
      "print(r.build_opener(r.ProxyHandler({})).open(\"http://" +
      FieldOf(ready, "metrics") + "/metrics\").read().decode(), end=\"\")'";
  if (std::system("command -v promtool > /dev/null") == 0) {
    EXPECT_EQ(std::system((fetch + " | promtool check metrics").c_str()), 0);
    EXPECT_EQ(std::system((fetch + " | grep -q "
                                   "'^forecache_store_blocks_pushed_total "
                                   "128'")
                              .c_str()),
              0);
  }
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Join(), 0) << daemon.Log();
  EXPECT_NE(daemon.Log().find("INSECURE"), std::string::npos);
}

// Connects to the store and waits until both have measured their ways.
void MeasureTheWay(const std::string& address, const std::string& transports,
                   Metrics* metrics) {
  UcxOptions options;
  options.transports = transports;
  auto opened = OpenUcxTransport(options);
  ASSERT_TRUE(opened.ok()) << opened.status();
  ProbedTransport transport(*std::move(opened), {.metrics = metrics});
  ControlClient control(address);
  auto store = control.Attach("test");
  ASSERT_TRUE(store.ok()) << store.status();
  DataClient client(&transport, Clock::Real());
  bool answered = false;
  ASSERT_TRUE(client
                  .Connect(*store,
                           [&](const absl::Status& got) {
                             answered = true;
                             EXPECT_EQ(got, absl::OkStatus());
                           })
                  .ok());
  // Twice the probe's time: one of the two processes may not be scheduled.
  const Nanos end = Clock::Real()->Now() + 2 * kTransportProbeTimeout;
  while (Clock::Real()->Now() < end) {
    if (client.Progress() == 0) client.Wait(kMillisecond);
  }
  EXPECT_TRUE(answered);
  // While the connection lasts, the store tells of it.
  const std::string text = metrics->Text();
  EXPECT_NE(text.find("forecache_transport_selected{"), std::string::npos)
      << text;
}

TEST(StoreDaemonTest, MeasuresTheWayToAWorker) {
  for (const std::string transports : {"all", "tcp"}) {
    Daemon daemon({"--dram-mib=64"});
    const std::string ready = daemon.Ready();
    ASSERT_FALSE(ready.empty()) << daemon.Log();
    Metrics metrics;
    MeasureTheWay(FieldOf(ready, "grpc"), transports, &metrics);
    // And goes on to serve.
    UseStore(FieldOf(ready, "grpc"));
    daemon.Signal(SIGTERM);
    EXPECT_EQ(daemon.Join(), 0) << daemon.Log();
    const std::string log = daemon.Log();
    EXPECT_NE(log.find("transport probed"), std::string::npos) << log;
    const size_t line = log.find("transport probed");
    printf("%s\n", log.substr(line, log.find('\n', line) - line).c_str());
  }
}

TEST(StoreDaemonTest, MeasuresNothingWhenTold) {
  Daemon daemon({"--dram-mib=64", "--transport-probe=off"});
  const std::string ready = daemon.Ready();
  ASSERT_FALSE(ready.empty()) << daemon.Log();
  Metrics metrics;
  MeasureTheWay(FieldOf(ready, "grpc"), "all", &metrics);
  daemon.Signal(SIGTERM);
  EXPECT_EQ(daemon.Join(), 0) << daemon.Log();
  EXPECT_EQ(daemon.Log().find("transport probed"), std::string::npos);
}

TEST(StoreDaemonTest, WrongUseIsTwo) {
  for (const char* flag :
       {"--bogus", "--transport-probe=maybe", "--dram-mib=0",
        "--transports=pigeon", "--listen=nowhere",
        "--listen=0.0.0.0:0", "--metrics=0.0.0.0:0"}) {
    Daemon daemon({flag});
    EXPECT_EQ(daemon.Join(), 2) << flag;
    EXPECT_FALSE(daemon.Log().empty());
  }
}

TEST(StoreDaemonTest, TakenPortIsThreeAndNamesTheFlag) {
  Daemon first({"--dram-mib=4"});
  std::string ready = first.Ready();
  ASSERT_FALSE(ready.empty()) << first.Log();
  Daemon second({"--dram-mib=4", "--listen=" + FieldOf(ready, "grpc")});
  EXPECT_EQ(second.Join(), 3);
  EXPECT_NE(second.Log().find("--listen"), std::string::npos);
  Daemon third({"--dram-mib=4", "--metrics=" + FieldOf(ready, "metrics")});
  EXPECT_EQ(third.Join(), 3);
  EXPECT_NE(third.Log().find("--metrics"), std::string::npos);
  first.Signal(SIGINT);
  EXPECT_EQ(first.Join(), 0) << first.Log();
}

}  // namespace
}  // namespace forecache
