// Wrong input and missing things: a clear message, the right exit code.

#include <filesystem>
#include <fstream>

#include "tests/e2e/fixture.h"

namespace forecache::e2e {
namespace {

constexpr int kTimeoutS = 30;

using ::testing::Test;

bool Says(const Ended& ended, const std::string& word) {
  return ended.output.find(word) != std::string::npos;
}

class BadInputTest : public DaemonTest {
 protected:
  void StartStore() {
    auto store = processes()->Start("store", kStoreBinary, {});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *store;
  }

  Ended RunWorker(const std::string& model) {
    return RunToEnd(
        {kWorkerBinary, "--insecure", "--store", store_.grpc, "--model",
         model}, kTimeoutS);
  }

  std::string TempFile(const std::string& name) {
    return ::testing::TempDir() + "/" + name;
  }

  demo::Daemon store_;
};

TEST_F(BadInputTest, MissingModelFile) {
  StartStore();
  const Ended ended = RunWorker("/nowhere/model.gguf");
  EXPECT_EQ(ended.exit_code, 3) << ended.output;
  EXPECT_TRUE(Says(ended, "/nowhere/model.gguf")) << ended.output;
}

TEST_F(BadInputTest, TruncatedModelFile) {
  StartStore();
  const std::string path = TempFile("cut.gguf");
  for (const uintmax_t bytes : {0u, 3u, 1000u, 20'000'000u}) {
    std::filesystem::copy_file(
        ModelPath(), path, std::filesystem::copy_options::overwrite_existing);
    std::filesystem::resize_file(path, bytes);
    const Ended ended = RunWorker(path);
    EXPECT_EQ(ended.exit_code, 3) << bytes << ": " << ended.output;
    EXPECT_TRUE(Says(ended, "cut.gguf")) << ended.output;
  }
}

TEST_F(BadInputTest, StoreThatIsNotThere) {
  const Ended ended =
      RunToEnd({kWorkerBinary, "--insecure", "--store", "127.0.0.1:1",
                "--model", ModelPath()},
               kTimeoutS);
  EXPECT_EQ(ended.exit_code, 3) << ended.output;
  EXPECT_TRUE(Says(ended, "127.0.0.1:1")) << ended.output;
  EXPECT_TRUE(Says(ended, "--store")) << ended.output;
}

TEST_F(BadInputTest, PortInUse) {
  StartStore();
  const Ended store =
      RunToEnd({kStoreBinary, "--insecure", "--listen", store_.grpc},
               kTimeoutS);
  EXPECT_EQ(store.exit_code, 3) << store.output;
  EXPECT_TRUE(Says(store, "--listen")) << store.output;
  const Ended metrics =
      RunToEnd({kStoreBinary, "--insecure", "--metrics", store_.metrics},
               kTimeoutS);
  EXPECT_EQ(metrics.exit_code, 3) << metrics.output;
  EXPECT_TRUE(Says(metrics, "--metrics")) << metrics.output;
  const Ended worker =
      RunToEnd({kWorkerBinary, "--insecure", "--store", store_.grpc,
                "--model", ModelPath(), "--listen", store_.grpc},
               kTimeoutS);
  EXPECT_EQ(worker.exit_code, 3) << worker.output;
  EXPECT_TRUE(Says(worker, "--listen")) << worker.output;
}

TEST_F(BadInputTest, UnknownFlagsAndRemoteWithoutConsent) {
  EXPECT_EQ(RunToEnd({kStoreBinary, "--frobnicate"}, kTimeoutS).exit_code, 2);
  EXPECT_EQ(RunToEnd({kWorkerBinary}, kTimeoutS).exit_code, 2);
  const Ended remote =
      RunToEnd({kStoreBinary, "--insecure", "--listen", "0.0.0.0:0"},
               kTimeoutS);
  EXPECT_EQ(remote.exit_code, 2) << remote.output;
  EXPECT_TRUE(Says(remote, "--tls-cert")) << remote.output;
  const Ended open = RunToEnd({kStoreBinary}, kTimeoutS);
  EXPECT_EQ(open.exit_code, 2) << open.output;
  EXPECT_TRUE(Says(open, "--insecure")) << open.output;
  const Ended worker = RunToEnd({kWorkerBinary, "--store", "127.0.0.1:1",
                                 "--model", ModelPath()},
                                kTimeoutS);
  EXPECT_EQ(worker.exit_code, 2) << worker.output;
  EXPECT_TRUE(Says(worker, "--insecure")) << worker.output;
  EXPECT_EQ(RunToEnd({kStoreBinary, "--help"}, kTimeoutS).exit_code, 0);
  EXPECT_EQ(RunToEnd({kWorkerBinary, "--help"}, kTimeoutS).exit_code, 0);
}

TEST_F(BadInputTest, RequestsOutsideTheLimits) {
  StartBoth();
  const std::string text = StoryText(4000);
  const auto refuse = [&](v1::GenerateRequest request, const char* field) {
    const auto answer = Generate(request);
    EXPECT_TRUE(absl::IsInvalidArgument(answer.status()))
        << field << ": " << answer.status();
    EXPECT_NE(answer.status().message().find(field), std::string::npos)
        << answer.status();
  };
  auto request = Request(text, v1::SPARSE);
  request.set_budget_blocks(4);  // sinks 1 + window 3 + open 1 = 5
  refuse(request, "budget_blocks");
  request = Request(text, v1::SPARSE);
  request.set_budget_fraction(1.5);
  refuse(request, "budget_fraction");
  request = Request(text, v1::SPARSE);
  request.set_predictor("crystal ball");
  refuse(request, "crystal ball");
  request = Request(text, v1::SPARSE);
  request.set_budget_blocks(10);
  request.set_corrected_blocks(6);  // of 10 - 5 chosen
  refuse(request, "corrected_blocks");
  request = Request(text, v1::SPARSE);
  request.set_max_tokens(0);
  refuse(request, "max_tokens");
  request = Request(text, v1::SPARSE);
  request.set_max_tokens(8192);
  refuse(request, "8192");  // longer than the model's context
  refuse(Request("", v1::EXACT), "prompt");
  // And the worker still works.
  const auto answer = Generate(Request(text, v1::SPARSE));
  EXPECT_TRUE(answer.ok()) << answer.status();
}

}  // namespace
}  // namespace forecache::e2e
