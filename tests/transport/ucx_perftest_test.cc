#include "bench/ucx_perftest.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "gtest/gtest.h"

namespace forecache {
namespace {

// Processes of this one, alive or not yet reaped.
int Children() {
  int count = 0;
  const std::string self = std::to_string(getpid());
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    FILE* file = fopen((entry.path() / "stat").c_str(), "r");
    if (file == nullptr) continue;
    int parent = 0;
    if (fscanf(file, "%*d (%*[^)]) %*c %d", &parent) == 1) {
      count += std::to_string(parent) == self;
    }
    fclose(file);
  }
  return count;
}

UcxPerftestOptions Small(const std::string& transports) {
  UcxPerftestOptions options;
  options.transports = transports;
  options.iterations = 100;
  return options;
}

class UcxPerftestTest : public testing::TestWithParam<const char*> {};

TEST_P(UcxPerftestTest, TellsARate) {
  auto result = RunUcxPerftest(Small(GetParam()));
  if (absl::IsNotFound(result.status())) {
    GTEST_SKIP() << result.status().message();
  }
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_GT(result->bytes_per_second, 1e5);
  EXPECT_GT(result->latency_us, 0);
  EXPECT_EQ(Children(), 0);
}

TEST_P(UcxPerftestTest, PicksTheBest) {
  auto best = BestUcxPerftest({"no_such_test", "ucp_am_bw"}, Small(GetParam()));
  if (absl::IsNotFound(best.status())) {
    GTEST_SKIP() << best.status().message();
  }
  ASSERT_TRUE(best.ok()) << best.status();
  EXPECT_EQ(best->test, "ucp_am_bw");
}

INSTANTIATE_TEST_SUITE_P(Transports, UcxPerftestTest,
                         testing::Values("tcp", "shm"),
                         [](const auto& info) {
                           return std::string(info.param);
                         });

TEST(UcxPerftestLimitTest, KillsWhatTakesTooLong) {
  UcxPerftestOptions options = Small("tcp");
  options.iterations = 2'000'000'000;
  options.timeout = 700 * kMillisecond;
  const Nanos start = Clock::Real()->Now();
  auto result = RunUcxPerftest(options);
  if (absl::IsNotFound(result.status())) {
    GTEST_SKIP() << result.status().message();
  }
  EXPECT_TRUE(absl::IsDeadlineExceeded(result.status())) << result.status();
  EXPECT_LT(Clock::Real()->Now() - start, 10 * kSecond);
  EXPECT_EQ(Children(), 0);
}

TEST(UcxPerftestLimitTest, AFailureIsTold) {
  auto result = RunUcxPerftest(Small("no_such_transport"));
  ASSERT_FALSE(result.ok());
}

}  // namespace
}  // namespace forecache
