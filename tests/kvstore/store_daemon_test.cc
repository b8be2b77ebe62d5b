// The store's binary: flags, ready file, a worker over UCX, metrics, signals.
#include <gtest/gtest.h>
#include <signal.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "tests/kvstore/context.h"
#include "tests/kvstore/daemon.h"
#include "transport/probed_transport.h"
#include "transport/ucx_transport.h"

namespace forecache {
namespace {

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

TEST(StoreDaemonTest, TakesItsMemoryAtStartWhereItIsTold) {
  constexpr size_t kArenaBytes = size_t{256} << 20;
  for (const bool prefault : {false, true}) {
    Daemon daemon({"--dram-mib=256",
                   prefault ? "--prefault-dram" : "--log-level=info"});
    ASSERT_FALSE(daemon.Ready().empty()) << daemon.Log();
    EXPECT_EQ(daemon.ResidentBytes() >= kArenaBytes, prefault)
        << daemon.ResidentBytes();
  }
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
