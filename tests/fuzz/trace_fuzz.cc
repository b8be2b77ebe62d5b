// bench/trace_replay.h: a trace file, and its replay.
#include <sstream>
#include <string>

#include "bench/trace_replay.h"
#include "common/check.h"
#include "tests/fuzz/fuzz.h"

namespace forecache::fuzz {

std::vector<Bytes> Seeds() {
  const std::string texts[] = {
      "{\"timestamp\": 0, \"input_length\": 1000, \"output_length\": 5, "
      "\"hash_ids\": [0, 1]}\n"
      "{\"timestamp\": 3000, \"input_length\": 1024, \"output_length\": 5, "
      "\"hash_ids\": [0, 1, 2]}\n\n"
      "{\"timestamp\": 1500.5, \"input_length\": 512, \"hash_ids\": [0]}\n",
      "{\"timestamp\": 7, \"input_length\": 1, \"hash_ids\": []}"};
  return ToSeeds(texts);
}

void Repair(Bytes*, Rng*) {}

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forecache;
  std::istringstream file(
      std::string(reinterpret_cast<const char*>(data), size));
  const auto trace = ReadTrace(file, "fuzz.jsonl");
  if (!trace.ok()) return 0;
  FC_CHECK(!trace->requests.empty() && trace->name == "fuzz");
  Nanos before = 0;
  uint64_t blocks = 0;
  for (const TraceRequest& request : trace->requests) {
    FC_CHECK(request.time >= before);
    before = request.time;
    blocks += request.blocks.size();
  }
  for (const char* policy : {"lru", "reuse"}) {
    const ReplayResult result = Replay(*trace, policy, 2);
    FC_CHECK(result.blocks[0] + result.blocks[1] == blocks);
    FC_CHECK(result.hits[0] + result.hits[1] <= blocks);
  }
  return 0;
}
