// Replays traces of requests through the store's index, to judge policies.
#ifndef FORECACHE_BENCH_TRACE_REPLAY_H_
#define FORECACHE_BENCH_TRACE_REPLAY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/clock.h"
#include "kvstore/segment_id.h"

namespace forecache {

// Threads: a value.
struct TraceRequest {
  Nanos time = 0;
  bool tail_is_full = true;        // tokens fill the last block
  std::vector<SegmentId> blocks;   // the prompt's, from the root
};

// Threads: a value.
struct Trace {
  std::string name;
  std::vector<TraceRequest> requests;  // by time
};

// The id that stands for block `number` of a trace.
SegmentId TraceBlockId(uint64_t number);

// Reads a trace of Mooncake's form: one JSON object a line, with timestamp
// (ms), input_length (tokens) and hash_ids, one for each block of 512 tokens.
// kInvalidArgument names the line that is wrong.
absl::StatusOr<Trace> LoadTrace(const std::string& path);
// The same from an open file; `path` is for its name and for errors.
absl::StatusOr<Trace> ReadTrace(std::istream& file, const std::string& path);

// Conversations and prompts that never come back, by the seed.
Trace GenerateTrace(int conversations, uint64_t seed);

// What one policy did with one trace.
//
// Threads: a value.
struct ReplayResult {
  std::string policy;
  size_t capacity = 0;              // blocks
  std::array<uint64_t, 2> hits{};   // of the first and the second half of the
  std::array<uint64_t, 2> blocks{}; // requests
  double seconds = 0;               // the replay took

  double HitRatio() const;
  double HitRatioOfHalf(int half) const;
  double NanosPerBlock() const;
};

// Replays `trace` on an empty index of `capacity` blocks.  A hit counts only in
// the leading run of a request's blocks.  A block that misses is taken in when
// there is room or the policy admits it, behind its parent; the blocks of the
// request at hand stay meanwhile.
// REQUIRES: a name of EvictionPolicyNames, capacity > 0.
ReplayResult Replay(const Trace& trace, const std::string& policy,
                    size_t capacity);

// Belady's optimum, which sees the future: after each block the one whose next
// use is farthest goes (the deeper one of equals), the newcomer included, and
// what is never used again is not kept at all.  It may break chains, and a
// break could only lose hits that count; so no prefix cache of this capacity
// has more hits than this has in any place of a request.
ReplayResult ReplayBelady(const Trace& trace, size_t capacity);

}  // namespace forecache

#endif  // FORECACHE_BENCH_TRACE_REPLAY_H_
