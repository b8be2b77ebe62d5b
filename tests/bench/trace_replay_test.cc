#include "bench/trace_replay.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace forecache {
namespace {

// A request for each list of block numbers, a second apart.
Trace MakeTrace(const std::vector<std::vector<int>>& requests) {
  Trace trace;
  trace.name = "by hand";
  for (const auto& numbers : requests) {
    TraceRequest request;
    request.time = static_cast<Nanos>(trace.requests.size()) * kSecond;
    for (int number : numbers) request.blocks.push_back(TraceBlockId(number));
    trace.requests.push_back(request);
  }
  return trace;
}

std::string WriteFile(const std::string& text) {
  std::string path = ::testing::TempDir() + "/small_trace.jsonl";
  std::ofstream(path) << text;
  return path;
}

uint64_t Hits(const ReplayResult& result) {
  return result.hits[0] + result.hits[1];
}

// Capacity 3.  What is held behind each request, oldest first:
//   0 1 2   hits 0   1 and 2 follow 0
//   0 3     hits 1   2 goes for 3
//   0 1     hits 2
//   0 1 2   hits 2   3 goes for 2
//   4 5     hits 0   2 and 1 go
//   0 1     hits 1   5 goes for 1, 0 and 4 stay
const std::vector<std::vector<int>> kByHand = {
    {0, 1, 2}, {0, 3}, {0, 1}, {0, 1, 2}, {4, 5}, {0, 1}};

TEST(TraceReplayTest, LruByHand) {
  const ReplayResult result = Replay(MakeTrace(kByHand), "lru", 3);
  EXPECT_EQ(result.blocks[0], 7);
  EXPECT_EQ(result.blocks[1], 7);
  EXPECT_EQ(result.hits[0], 3);
  EXPECT_EQ(result.hits[1], 3);
  EXPECT_DOUBLE_EQ(result.HitRatio(), 6.0 / 14);
  EXPECT_DOUBLE_EQ(result.HitRatioOfHalf(1), 3.0 / 7);
}

// Belady keeps 0, 1 and 2 for good: only 3, 4 and 5 and what is first seen
// miss.
TEST(TraceReplayTest, BeladyByHand) {
  const ReplayResult result = ReplayBelady(MakeTrace(kByHand), 3);
  EXPECT_EQ(Hits(result), 8);
  EXPECT_EQ(Hits(ReplayBelady(MakeTrace(kByHand), 1)), 4);  // block 0
}

TEST(TraceReplayTest, AHitCountsOnlyInTheLeadingRun) {
  // Block 2 is known, but not behind 9.
  const Trace trace = MakeTrace({{0, 1, 2}, {9, 1, 2}});
  EXPECT_EQ(Hits(Replay(trace, "lru", 10)), 0);
}

TEST(TraceReplayTest, AllPoliciesAgreeWhereEverythingFits) {
  const Trace trace = GenerateTrace(100, 3);
  const uint64_t most = Hits(ReplayBelady(trace, 100'000));
  EXPECT_GT(most, 0);
  for (const char* policy : {"lru", "lfu", "s3fifo", "reuse"}) {
    EXPECT_EQ(Hits(Replay(trace, policy, 100'000)), most) << policy;
  }
}

TEST(TraceReplayTest, NoPolicyBeatsBelady) {
  const Trace trace = GenerateTrace(300, 4);
  for (size_t capacity : {1, 7, 100, 500}) {
    const uint64_t most = Hits(ReplayBelady(trace, capacity));
    for (const char* policy : {"lru", "lfu", "s3fifo", "reuse"}) {
      EXPECT_LE(Hits(Replay(trace, policy, capacity)), most)
          << policy << " at " << capacity;
    }
  }
}

TEST(TraceReplayTest, ReuseLearnsWhatLruCannot) {
  const Trace trace = GenerateTrace(1'000, 5);
  EXPECT_GT(Replay(trace, "reuse", 1'000).HitRatio(),
            Replay(trace, "lru", 1'000).HitRatio() + 0.05);
}

TEST(TraceReplayTest, LoadsMooncakesForm) {
  auto trace = LoadTrace(WriteFile(
      R"({"timestamp": 27, "input_length": 600, "output_length": 3, )"
      R"("hash_ids": [46, 47]})"
      "\n"
      R"({"timestamp": 3, "input_length": 512, "hash_ids": [46]})"
      "\n"));
  ASSERT_TRUE(trace.ok()) << trace.status();
  EXPECT_EQ(trace->name, "small_trace");
  ASSERT_EQ(trace->requests.size(), 2);
  EXPECT_EQ(trace->requests[0].time, 3 * kMillisecond);
  EXPECT_TRUE(trace->requests[0].tail_is_full);
  EXPECT_FALSE(trace->requests[1].tail_is_full);
  EXPECT_EQ(trace->requests[1].blocks,
            (std::vector{TraceBlockId(46), TraceBlockId(47)}));
}

TEST(TraceReplayTest, NamesTheLineThatIsWrong) {
  auto trace = LoadTrace(WriteFile(
      R"({"timestamp": 1, "input_length": 5, "hash_ids": [1]})"
      "\n{\"timestamp\": 1}\n"));
  EXPECT_EQ(trace.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(trace.status().message().find(":2"), std::string::npos);
  EXPECT_FALSE(LoadTrace(WriteFile("")).ok());
  EXPECT_EQ(LoadTrace("/nowhere/trace.jsonl").status().code(),
            absl::StatusCode::kNotFound);
}

// Found by tests/fuzz/trace_fuzz.cc: such times overflowed, or ran backwards.
TEST(TraceReplayTest, RefusesTimesThatNoClockShows) {
  for (const char* time : {"-1", "1e300", "9223372036854775807"}) {
    auto trace = LoadTrace(WriteFile(std::string("{\"timestamp\": ") + time +
                                     ", \"input_length\": 5, "
                                     "\"hash_ids\": [1]}\n"));
    EXPECT_EQ(trace.status().code(), absl::StatusCode::kInvalidArgument)
        << time;
  }
}

// The public trace has known figures: so the rule of counting is the field's.
TEST(TraceReplayTest, KnownFiguresOfTheConversationTrace) {
  const char* data = std::getenv("FORECACHE_DATA");
  if (data == nullptr) GTEST_SKIP() << "FORECACHE_DATA is not set";
  auto trace = LoadTrace(std::string(data) +
                         "/traces/conversation_trace.jsonl");
  if (!trace.ok()) GTEST_SKIP() << trace.status();
  EXPECT_NEAR(Replay(*trace, "lru", 10'000).HitRatio(), 0.212, 0.0005);
  EXPECT_NEAR(ReplayBelady(*trace, 10'000).HitRatio(), 0.366, 0.0005);
  EXPECT_GT(Replay(*trace, "reuse", 10'000).HitRatio(), 0.235);
}

}  // namespace
}  // namespace forecache
