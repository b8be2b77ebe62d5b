// The store's binary under concurrent clients that commit and read the same
// keys, more of them than memory and SSD hold, while it is killed, ended and
// started again and its wall clock jumps by ten minutes and back.  All that the
// clients were told is kept in a journal, and has to be true.
//
// FORECACHE_JOURNAL_SEED chooses keys and moments, FORECACHE_JOURNAL_LIVES (6)
// how often the store is started.
#include <fcntl.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <set>
#include <thread>

#include "absl/synchronization/mutex.h"
#include "common/rng.h"
#include "proto/store.grpc.pb.h"
#include "tests/journal/journal.h"
#include "tests/journal/wall_clock.h"
#include "tests/kvstore/daemon.h"
#include "tests/kvstore/mortal_store_client.h"

namespace forecache {
namespace {

constexpr char kShim[] = "tests/journal/libwall_clock_shim.so";
const ModelFingerprint kModel{"00ff", "llama", kTestGeometry, 10000.0f};
constexpr int kClients = 3;
constexpr int kKeys = 100;   // the store holds a fraction of them
constexpr int kSteps = 6;    // of the wall clock, in one life
constexpr int kStepMs = 400;
constexpr int64_t kStepSeconds = 600;
constexpr size_t kPartWords = kBlockTokens * 32;

int64_t FromEnvironment(const char* name, int64_t fallback) {
  const char* value = std::getenv(name);
  return value == nullptr ? fallback : std::atoll(value);
}

std::vector<int32_t> TokensOf(int key) {
  std::vector<int32_t> tokens(kSegmentTokens + 1);  // one is left to compute
  Rng rng(key + 1);
  for (int32_t& token : tokens) token = static_cast<int32_t>(rng.Below(50000));
  return tokens;
}

using Part = std::array<uint16_t, kPartWords>;

// What a commit puts: finite numbers that tell where they belong.
Part PartOf(int key, int generation, int layer, int head, int block,
            bool value) {
  Part part;
  part[0] = static_cast<uint16_t>(generation % 16384);
  part[1] = static_cast<uint16_t>(generation / 16384);
  Rng rng((uint64_t(key) << 40) ^ (uint64_t(generation) << 16) ^
          (layer * 256 + head * 128 + block * 2 + value));
  for (size_t i = 2; i < part.size(); ++i) {
    part[i] = static_cast<uint16_t>(rng.Next() & 0x3BFF);
  }
  return part;
}

std::vector<std::byte> PayloadOf(int key, int generation, int layer) {
  std::vector<Part> parts;
  parts.reserve(2 * kTestGeometry.kv_heads * kSegmentBlocks);
  const auto add = [&](int head, int block, bool value) {
    parts.push_back(PartOf(key, generation, layer, head, block, value));
    return reinterpret_cast<const std::byte*>(parts.back().data());
  };
  return PackPutPayload(
      kTestGeometry, kSegmentBlocks,
      [&](int head, int block) { return add(head, block, false); },
      [&](int head, int block) { return add(head, block, true); });
}

// Tells which generation all that came is of.
//
// Threads: one thread.
class GenerationSink : public BlockSink {
 public:
  explicit GenerationSink(int key) : key_(key) {}
  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    Look(layer, entry, k, false);
    Look(layer, entry, v, true);
    ++blocks;
  }
  void OnBlockFailed(int, const wire::FetchEntry&,
                     const absl::Status&) override {
    ++failed;
  }
  std::set<int> generations;
  int blocks = 0, failed = 0, foreign = 0;

 private:
  void Look(int layer, const wire::PushEntry& entry, ByteView bytes,
            bool value) {
    uint16_t head[2];
    std::memcpy(head, bytes.data(), sizeof(head));
    const int generation = head[0] + head[1] * 16384;
    generations.insert(generation);
    const Part wanted = PartOf(key_, generation, layer, entry.kv_head,
                               static_cast<int>(entry.block), value);
    const bool same = bytes.size() == sizeof(wanted) &&
                      std::memcmp(bytes.data(), wanted.data(),
                                  sizeof(wanted)) == 0;
    if (!same) ++foreign;
  }
  const int key_;
};

// Of a request that was answered by an error.
bool IsTyped(const absl::Status& status) {
  return !absl::IsInternal(status) && !absl::IsUnknown(status);
}
// Whether the store may have done it all the same.
bool IsOpen(const absl::Status& status) {
  return absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status) ||
         absl::IsCancelled(status);
}

// One client's thread, for one life of the store.
//
// Threads: one thread.
class Load {
 public:
  Load(const std::string& address, uint64_t seed, std::atomic<int>* generation,
       const std::atomic<bool>* dead)
      : rng_(seed),
        generation_(generation),
        dead_(dead),
        client_(address, dead),
        seal_(v1::KvStore::NewStub(grpc::CreateChannel(
            address, grpc::InsecureChannelCredentials()))) {}

  void Run() {
    while (!*dead_ && client_.connected()) {
      const int key = static_cast<int>(rng_.Below(kKeys));
      Visit(key, TokensOf(key));
    }
  }

  std::vector<JournalEntry> journal;
  std::string untyped;  // an error that says nothing

 private:
  // Reads the key, or commits it when it is not there.
  void Visit(int key, const std::vector<int32_t>& tokens) {
    JournalEntry read{.key = key, .invoked = Clock::Real()->Now()};
    const auto opened = client_.control.OpenSession(kModel, tokens, "journal");
    if (!opened.ok()) return Note(opened.status());
    if (opened->cached_tokens > 0) {
      Read(opened->handle, &read);
    } else {
      read.result = JournalResult::kMiss;
    }
    read.returned = Clock::Real()->Now();
    journal.push_back(read);
    if (read.result == JournalResult::kMiss) {
      Commit(opened->handle, key, tokens);
    }
    Note(client_.control.CloseSession(opened->handle));
  }

  void Read(const SessionHandle& session, JournalEntry* read) {
    sinks_.push_back(std::make_unique<GenerationSink>(read->key));
    GenerationSink* const sink = sinks_.back().get();
    const absl::Status end = client_.Read(session, 1, sink);
    Note(end);
    const bool all = end.ok() && sink->failed == 0;
    const int expected =
        kTestGeometry.layers * kTestGeometry.kv_heads * kSegmentBlocks;
    read->result = all ? JournalResult::kOk : JournalResult::kRefused;
    if (sink->foreign > 0 || sink->generations.size() > 1 ||
        (all && sink->blocks != expected)) {
      read->result = JournalResult::kTorn;
    }
    if (!sink->generations.empty()) {
      read->generation = *sink->generations.begin();
    }
  }

  void Commit(const SessionHandle& session, int key,
              const std::vector<int32_t>& tokens) {
    JournalEntry commit{.kind = JournalKind::kCommit,
                        .result = JournalResult::kRefused,
                        .key = key,
                        .generation = ++*generation_,
                        .invoked = Clock::Real()->Now()};
    absl::Status put;
    for (int layer = 0; layer < kTestGeometry.layers && put.ok(); ++layer) {
      put = client_.Put(session, layer, 0,
                        PayloadOf(key, commit.generation, layer));
    }
    Note(put);
    // What was not put whole cannot be sealed: nobody can read it.
    if (put.ok()) commit.result = Seal(session, tokens);
    commit.returned = Clock::Real()->Now();
    journal.push_back(commit);
  }

  JournalResult Seal(const SessionHandle& session,
                     const std::vector<int32_t>& tokens) {
    v1::SealSegmentRequest request;
    request.set_session_id(session.id);
    request.set_segment(0);
    request.mutable_tokens()->Assign(tokens.begin(), tokens.end() - 1);
    request.set_wait_durable(rng_.Below(4) == 0);
    v1::SealSegmentReply reply;
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() +
                         std::chrono::nanoseconds(kAnswerTimeout));
    const grpc::Status status = seal_->SealSegment(&context, request, &reply);
    if (status.ok()) {
      return reply.already_held() ? JournalResult::kHeld : JournalResult::kOk;
    }
    const absl::Status why(static_cast<absl::StatusCode>(status.error_code()),
                           status.error_message());
    Note(why);
    return IsOpen(why) ? JournalResult::kUnknown : JournalResult::kRefused;
  }

  void Note(const absl::Status& status) {
    if (!status.ok() && !IsTyped(status)) untyped = status.ToString();
  }

  Rng rng_;
  std::atomic<int>* const generation_;
  const std::atomic<bool>* const dead_;
  std::vector<std::unique_ptr<GenerationSink>> sinks_;  // outlive the client
  MortalStoreClient client_;
  const std::unique_ptr<v1::KvStore::Stub> seal_;
};

class JournalLoadTest : public ::testing::Test {
 protected:
  JournalLoadTest()
      : folder_(std::string(std::getenv("TEST_TMPDIR")) + "/journal"),
        rng_(FromEnvironment("FORECACHE_JOURNAL_SEED", 1)) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directory(folder_);
    const std::string path = folder_ + "/wall_clock";
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    FC_CHECK(file >= 0 && ftruncate(file, sizeof(WallClock)) == 0);
    void* memory = mmap(nullptr, sizeof(WallClock), PROT_READ | PROT_WRITE,
                        MAP_SHARED, file, 0);
    FC_CHECK(memory != MAP_FAILED);
    close(file);
    clock_ = static_cast<WallClock*>(memory);
    // What is started from here on has that clock; this process has not.
    setenv("FORECACHE_WALL_CLOCK", path.c_str(), 1);
    setenv("LD_PRELOAD",
           (std::filesystem::current_path() / kShim).c_str(), 1);
  }
  ~JournalLoadTest() override {
    unsetenv("LD_PRELOAD");
    munmap(clock_, sizeof(WallClock));
    std::filesystem::remove_all(folder_);
  }

  // One life of the store: clients, steps of its clock, and its end.
  void Live(bool killed) {
    Daemon daemon({"--dram-mib=4", "--ssd-dir=" + folder_ + "/ssd",
                   "--ssd-mib=48", "--transports=tcp",
                   "--transport-probe=off"});
    const std::string address = FieldOf(daemon.Ready(), "grpc");
    ASSERT_FALSE(address.empty()) << daemon.Log();
    std::atomic<bool> dead{false};
    std::vector<std::unique_ptr<Load>> loads;
    std::vector<std::thread> threads;
    for (int i = 0; i < kClients; ++i) {
      loads.push_back(std::make_unique<Load>(address, rng_.Next(),
                                             &generation_, &dead));
      threads.emplace_back([load = loads.back().get()] { load->Run(); });
    }
    for (int i = 0; i < kSteps; ++i) {
      poll(nullptr, 0, kStepMs + static_cast<int>(rng_.Below(100)));
      // Forward, back, further back, and so on.
      static constexpr int64_t kOffsets[] = {1, 0, -1, 0};
      clock_->offset_seconds = kOffsets[i % 4] * kStepSeconds;
    }
    ControlClient control(address);
    if (const auto stats = control.Stats(); stats.ok()) {
      evicted_ += stats->segments_evicted;
      ssd_segments_ = std::max(ssd_segments_, stats->ssd_segments);
    }
    const Nanos ends = Clock::Real()->Now();
    daemon.Signal(killed ? SIGKILL : SIGTERM);
    if (killed) dead = true;
    const int code = daemon.Join();
    dead = true;
    EXPECT_EQ(code, killed ? -1 : 0) << daemon.Log();
    EXPECT_LT(Clock::Real()->Now() - ends, 30 * kSecond);
    for (std::thread& thread : threads) thread.join();
    for (const auto& load : loads) {
      EXPECT_EQ(load->untyped, "");
      journal_.insert(journal_.end(), load->journal.begin(),
                      load->journal.end());
    }
  }

  const std::string folder_;
  Rng rng_;
  WallClock* clock_ = nullptr;
  std::atomic<int> generation_{0};
  std::vector<JournalEntry> journal_;
  uint64_t evicted_ = 0, ssd_segments_ = 0;
};

TEST_F(JournalLoadTest, WhatClientsAreToldIsTrue) {
  const int64_t lives = FromEnvironment("FORECACHE_JOURNAL_LIVES", 6);
  for (int64_t i = 0; i < lives && !HasFailure(); ++i) {
    SCOPED_TRACE(testing::Message() << "life " << i);
    Live(/*killed=*/i % 2 == 0);
  }
  EXPECT_EQ(CheckJournal(journal_), "")
      << "FORECACHE_JOURNAL_SEED chooses the course";
  int reads = 0, commits = 0, refused = 0;
  Nanos longest = 0;
  std::array<int, kKeys> generations{};
  for (const JournalEntry& entry : journal_) {
    const bool ok = entry.result == JournalResult::kOk;
    longest = std::max(longest, entry.returned - entry.invoked);
    if (entry.kind == JournalKind::kRead) {
      reads += ok;
      refused += entry.result == JournalResult::kRefused;
    } else if (ok) {
      ++commits;
      ++generations[entry.key];
    }
  }
  const auto replaced = std::ranges::count_if(
      generations, [](int count) { return count > 1; });
  std::printf("%zu operations: %d reads, %d commits, %ld keys replaced, "
              "%d reads refused, the longest took %ld ms; %lu evictions, %lu "
              "segments on SSD, the wall clock was read %lu times\n",
              journal_.size(), reads, commits, replaced, refused,
              static_cast<long>(longest / kMillisecond), evicted_,
              ssd_segments_, clock_->reads.load());
  // Without these the journal would be true of anything.
  EXPECT_GT(reads, 50);
  EXPECT_GT(commits, 100);
  EXPECT_GT(replaced, 5);
  EXPECT_LT(refused, reads);
  EXPECT_GT(ssd_segments_, 0u);
  EXPECT_GT(clock_->reads, 0u) << "the store did not see the steps";
}

}  // namespace
}  // namespace forecache
