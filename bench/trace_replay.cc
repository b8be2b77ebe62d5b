#include "bench/trace_replay.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <limits>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/rng.h"
#include "common/status.h"
#include "kvstore/eviction/policy.h"
#include "kvstore/index.h"
#include "nlohmann/json.hpp"

namespace forecache {
namespace {

constexpr uint64_t kSeed = 1;
constexpr int kBlockTokensOfTrace = 512;
constexpr double kTimestampMsMax = 1e12;  // 31 years, far from overflow
constexpr size_t kNever = std::numeric_limits<size_t>::max();

absl::StatusOr<TraceRequest> ParseRequest(const std::string& line) {
  const auto json = nlohmann::json::parse(line, nullptr, false);
  if (!json.is_object() || !json.contains("timestamp") ||
      !json["timestamp"].is_number() || !json.contains("hash_ids") ||
      !json["hash_ids"].is_array() || !json.contains("input_length") ||
      !json["input_length"].is_number_unsigned()) {
    return absl::InvalidArgumentError(
        "need an object with timestamp, input_length and hash_ids");
  }
  const double timestamp = json["timestamp"].get<double>();
  if (!(timestamp >= 0 && timestamp <= kTimestampMsMax)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "timestamp is ", timestamp, ", must be 0..", kTimestampMsMax, " ms"));
  }
  TraceRequest request;
  request.time = static_cast<Nanos>(timestamp * kMillisecond);
  request.tail_is_full =
      json["input_length"].get<uint64_t>() % kBlockTokensOfTrace == 0;
  for (const auto& id : json["hash_ids"]) {
    if (!id.is_number_unsigned()) {
      return absl::InvalidArgumentError("hash_ids must be numbers from 0");
    }
    request.blocks.push_back(TraceBlockId(id.get<uint64_t>()));
  }
  return request;
}

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() -
                                       start)
      .count();
}

int HalfOf(size_t request, const Trace& trace) {
  return request * 2 >= trace.requests.size() ? 1 : 0;
}

// One request through the index.  Returns how many leading blocks were held.
size_t ReplayRequest(const TraceRequest& request, size_t capacity,
                     Index* index) {
  const auto& blocks = request.blocks;
  index->Arrive({.now = request.time,
                 .chain = blocks,
                 .tail_is_full = request.tail_is_full});
  const size_t leading = index->LongestPrefix(blocks);
  std::vector<Index::EntryRef> pins;
  // As the store does it: what comes first is used last.
  for (size_t i = leading; i-- > 0;) pins.push_back(index->Pin(blocks[i]));
  for (size_t i = leading; i < blocks.size(); ++i) {
    if (index->Contains(blocks[i])) {  // behind another block: no hit
      pins.push_back(index->Pin(blocks[i]));
      continue;
    }
    if (index->size() >= capacity &&
        !(index->Admits(blocks[i]) && index->Evict())) {
      break;  // and no block behind it: it could not be found
    }
    pins.push_back(
        index->Insert(blocks[i], i > 0 ? blocks[i - 1] : kRootSegment));
  }
  for (const auto& pin : pins) index->Unpin(pin);
  return leading;
}

// For each block of each request, the request that uses it next.
std::vector<std::vector<size_t>> NextUses(const Trace& trace) {
  std::vector<std::vector<size_t>> next(trace.requests.size());
  std::unordered_map<SegmentId, size_t, SegmentIdHash> seen;
  for (size_t i = trace.requests.size(); i-- > 0;) {
    for (const SegmentId& id : trace.requests[i].blocks) {
      auto [found, fresh] = seen.try_emplace(id, kNever);
      next[i].push_back(found->second);
      found->second = i;
    }
  }
  return next;
}

}  // namespace

SegmentId TraceBlockId(uint64_t number) {
  // Odd, so no two numbers share an id; spread, since ids are hashes elsewhere.
  const uint64_t spread = (number + 1) * 0x9E3779B97F4A7C15u;
  SegmentId id;
  std::memcpy(id.bytes.data(), &spread, sizeof(spread));
  return id;
}

absl::StatusOr<Trace> LoadTrace(const std::string& path) {
  std::ifstream file(path);
  if (!file) return absl::NotFoundError(absl::StrCat(path, ": cannot open"));
  return ReadTrace(file, path);
}

absl::StatusOr<Trace> ReadTrace(std::istream& file, const std::string& path) {
  Trace trace;
  trace.name = path.substr(path.rfind('/') + 1);
  trace.name = trace.name.substr(0, trace.name.find('.'));
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    if (line.empty()) continue;
    auto request = ParseRequest(line);
    if (!request.ok()) {
      return Annotate(request.status(), absl::StrCat(path, ":", number));
    }
    trace.requests.push_back(*std::move(request));
  }
  if (trace.requests.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no requests"));
  }
  std::stable_sort(trace.requests.begin(), trace.requests.end(),
                   [](const TraceRequest& a, const TraceRequest& b) {
                     return a.time < b.time;
                   });
  return trace;
}

Trace GenerateTrace(int conversations, uint64_t seed) {
  Rng rng(seed);
  Trace trace;
  trace.name = "generated";
  uint64_t next_block = 1;  // 0 is the system prompt that all share
  for (int i = 0; i < conversations; ++i) {
    std::vector<SegmentId> context = {TraceBlockId(0)};
    const int turns = rng.Uniform() < 0.6 ? 1 : 2 + rng.Below(6);
    Nanos time = static_cast<Nanos>(i) * kSecond;
    for (int turn = 0; turn < turns; ++turn) {
      const size_t grows = turn == 0 ? 2 + rng.Below(30) : 1 + rng.Below(2);
      for (size_t k = 0; k < grows; ++k) {
        context.push_back(TraceBlockId(next_block++));
      }
      trace.requests.push_back({time, true, context});
      time += (20 + rng.Below(120)) * kSecond;
    }
  }
  std::stable_sort(trace.requests.begin(), trace.requests.end(),
                   [](const TraceRequest& a, const TraceRequest& b) {
                     return a.time < b.time;
                   });
  return trace;
}

double ReplayResult::HitRatio() const {
  return static_cast<double>(hits[0] + hits[1]) /
         static_cast<double>(blocks[0] + blocks[1]);
}

double ReplayResult::HitRatioOfHalf(int half) const {
  return static_cast<double>(hits[half]) / static_cast<double>(blocks[half]);
}

double ReplayResult::NanosPerBlock() const {
  return seconds * 1e9 / static_cast<double>(blocks[0] + blocks[1]);
}

ReplayResult Replay(const Trace& trace, const std::string& policy,
                    size_t capacity) {
  auto eviction = NewEvictionPolicy(policy, kSeed);
  FC_CHECK(eviction != nullptr && capacity > 0) << policy;
  Index index(std::move(eviction));
  ReplayResult result{.policy = policy, .capacity = capacity};
  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < trace.requests.size(); ++i) {
    const int half = HalfOf(i, trace);
    result.blocks[half] += trace.requests[i].blocks.size();
    result.hits[half] += ReplayRequest(trace.requests[i], capacity, &index);
  }
  result.seconds = SecondsSince(start);
  return result;
}

ReplayResult ReplayBelady(const Trace& trace, size_t capacity) {
  FC_CHECK(capacity > 0);
  ReplayResult result{.policy = "belady", .capacity = capacity};
  const auto start = std::chrono::steady_clock::now();
  const auto next_uses = NextUses(trace);
  using Rank = std::tuple<size_t, size_t, SegmentId>;  // next use, depth
  std::set<Rank> ranks;
  std::unordered_map<SegmentId, Rank, SegmentIdHash> held;
  for (size_t i = 0; i < trace.requests.size(); ++i) {
    const auto& blocks = trace.requests[i].blocks;
    const int half = HalfOf(i, trace);
    result.blocks[half] += blocks.size();
    for (size_t depth = 0; depth < blocks.size(); ++depth) {
      auto found = held.find(blocks[depth]);
      if (found != held.end()) {
        ++result.hits[half];
        ranks.erase(found->second);
        held.erase(found);
      }
      if (next_uses[i][depth] == kNever) continue;
      const Rank rank{next_uses[i][depth], depth, blocks[depth]};
      ranks.insert(rank);
      held[blocks[depth]] = rank;
      if (ranks.size() > capacity) {
        held.erase(std::get<2>(*ranks.rbegin()));
        ranks.erase(std::prev(ranks.end()));
      }
    }
  }
  result.seconds = SecondsSince(start);
  return result;
}

}  // namespace forecache
