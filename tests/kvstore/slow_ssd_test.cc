// An SSD that hangs holds up nobody who does not need it.
#include <gtest/gtest.h>
#include <poll.h>

#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "common/limits.h"
#include "common/monotonic_cond.h"
#include "kvstore/data_plane.h"
#include "tests/kvstore/correction_fixture.h"
#include "tests/kvstore/hello.h"
#include "tests/kvstore/ssd_fixture.h"
#include "transport/loopback_transport.h"

namespace forecache {
namespace {

// Not for ever: a test that fails has to end.
constexpr Nanos kHoldMost = 20 * kSecond;

// Whether operations of a HeldDisk hang.
//
// Threads: safe to call from any thread.
class Hold {
 public:
  void Set(bool held) {
    absl::MutexLock lock(&mu_);
    held_ = held;
    changed_.SignalAll();
  }
  int waiting() const {
    absl::MutexLock lock(&mu_);
    return waiting_;
  }
  void Pass() {
    absl::MutexLock lock(&mu_);
    ++waiting_;
    changed_.AwaitFor(&mu_, kHoldMost, [this] { return !held_; });
    --waiting_;
  }

 private:
  mutable absl::Mutex mu_;
  MonotonicCond changed_;
  bool held_ = false;
  int waiting_ = 0;
};

class HeldQueue : public DiskQueue {
 public:
  HeldQueue(std::unique_ptr<DiskQueue> inner, Hold* hold)
      : inner_(std::move(inner)), hold_(hold) {}
  void Start(std::span<DiskOp> ops) override { inner_->Start(ops); }
  bool Poll() override { return inner_->Poll(); }
  void Wait() override {
    hold_->Pass();
    inner_->Wait();
  }

 private:
  const std::unique_ptr<DiskQueue> inner_;
  Hold* const hold_;
};

class HeldFile : public DiskFile {
 public:
  HeldFile(std::unique_ptr<DiskFile> inner, Hold* hold)
      : inner_(std::move(inner)), hold_(hold) {}
  uint64_t bytes() const override { return inner_->bytes(); }
  std::unique_ptr<DiskQueue> NewQueue(int depth) override {
    return std::make_unique<HeldQueue>(inner_->NewQueue(depth), hold_);
  }
  absl::Status Sync() override {
    hold_->Pass();
    return inner_->Sync();
  }

 private:
  const std::unique_ptr<DiskFile> inner_;
  Hold* const hold_;
};

class HeldDisk : public Disk {
 public:
  HeldDisk(std::unique_ptr<Disk> inner, Hold* hold)
      : inner_(std::move(inner)), hold_(hold) {}
  std::string Name() const override { return inner_->Name(); }
  absl::Status Lock() override { return inner_->Lock(); }
  absl::StatusOr<std::string> ReadFile(const std::string& name) override {
    return inner_->ReadFile(name);
  }
  absl::Status WriteFile(const std::string& name,
                         const std::string& bytes) override {
    return inner_->WriteFile(name, bytes);
  }
  absl::StatusOr<std::unique_ptr<DiskFile>> OpenFile(
      const std::string& name, uint64_t bytes) override {
    auto file = inner_->OpenFile(name, bytes);
    if (!file.ok()) return file.status();
    return std::make_unique<HeldFile>(*std::move(file), hold_);
  }
  rocksdb::Env* MetadataEnv() override { return inner_->MetadataEnv(); }
  std::string MetadataPath() const override { return inner_->MetadataPath(); }

 private:
  const std::unique_ptr<Disk> inner_;
  Hold* const hold_;
};

// A worker.
struct Worker {
  explicit Worker(Clock* clock) : client(&transport, clock) {}
  LoopbackTransport transport;
  DataClient client;
};

class SlowSsdTest : public SsdStoreFixture {
 protected:
  static constexpr size_t kSegments = 2;

  SlowSsdTest() : on_ssd_(1, kSegments), in_memory_(2, kSegments) {
    Fill(on_ssd_);
    RunAll();
    StartHeld(Options());  // a new process: on_ssd_ is on SSD alone
    Fill(in_memory_);
    near_ = Join();
    far_ = Join();
  }
  ~SlowSsdTest() override {
    hold_.Set(false);
    Leave();
    plane_ = nullptr;
  }

  void StartHeld(const StoreOptions& options,
                 size_t waiting_put_bytes = kWaitingPutBytesMax) {
    plane_ = nullptr;
    store_ = nullptr;
    metrics_ = std::make_unique<Metrics>();
    store_ = *StoreCore::Create(
        options, &clock_, metrics_.get(),
        std::make_unique<HeldDisk>(NewMemoryDisk(files_), &hold_));
    plane_ = std::make_unique<DataPlane>(
        store_.get(), std::make_unique<LoopbackTransport>(),
        DataPlaneOptions{.ssd_threads = 2,
                         .waiting_put_bytes = waiting_put_bytes});
  }
  std::unique_ptr<Worker> Join() {
    auto worker = std::make_unique<Worker>(&clock_);
    std::optional<absl::Status> hello;
    FC_CHECK_OK(worker->client.Connect(
        AddressOf(*plane_), [&](const absl::Status& got) { hello = got; }));
    FC_CHECK(MoveUntil({worker.get()}, [&] { return hello.has_value(); }));
    FC_CHECK_OK(*hello);
    return worker;
  }
  void Leave() {
    near_ = nullptr;
    far_ = nullptr;
  }
  // False when it does not come within about ten seconds.
  template <typename Done>
  bool MoveUntil(const std::vector<Worker*>& workers, const Done& done) {
    const Nanos end = Clock::Real()->Now() + 10 * kSecond;
    while (!done()) {
      if (Clock::Real()->Now() > end) return false;
      plane_->RunOnce();
      for (Worker* worker : workers) worker->client.Progress();
    }
    return true;
  }
  SessionHandle OpenOver(const TestContext& context) {
    const NewSession opened = Open(context);
    return {opened.id, {opened.key[0], opened.key[1]}, kTestGeometry};
  }

  // A fetch of all blocks of a context's layer.
  struct Fetch {
    KeepingSink sink;
    std::optional<absl::Status> end;
  };
  void StartFetch(Worker* worker, const SessionHandle& session,
                  const TestContext& context, Fetch* fetch) {
    FC_CHECK_OK(worker->client
                    .Fetch(session, 1,
                           AllEntries(kTestGeometry, context.blocks()),
                           &fetch->sink,
                           [fetch](const absl::Status& got) {
                             fetch->end = got;
                           })
                    .status());
  }
  static void ExpectAll(const TestContext& context, const Fetch& fetch) {
    EXPECT_TRUE(fetch.end.has_value() && fetch.end->ok());
    EXPECT_EQ(fetch.sink.blocks.size(),
              size_t{1} * context.blocks() * kTestGeometry.kv_heads);
    for (const auto& [place, parts] : fetch.sink.blocks) {
      const auto [head, block] = place;
      EXPECT_TRUE(std::ranges::equal(parts.first,
                                     context.Part(1, head, block, false)));
      EXPECT_TRUE(std::ranges::equal(parts.second,
                                     context.Part(1, head, block, true)));
    }
  }

  Hold hold_;
  TestContext on_ssd_;
  TestContext in_memory_;
  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<Worker> near_;  // reads what is in memory
  std::unique_ptr<Worker> far_;   // what is on SSD
};

TEST_F(SlowSsdTest, MemoryIsServedWhileReadsHang) {
  const SessionHandle on_ssd = OpenOver(on_ssd_);
  const SessionHandle in_memory = OpenOver(in_memory_);
  hold_.Set(true);
  Fetch slow;
  StartFetch(far_.get(), on_ssd, on_ssd_, &slow);
  ASSERT_TRUE(MoveUntil({near_.get(), far_.get()},
                        [&] { return hold_.waiting() > 0; }));
  Fetch fast;
  StartFetch(near_.get(), in_memory, in_memory_, &fast);
  ASSERT_TRUE(MoveUntil({near_.get(), far_.get()},
                        [&] { return fast.end.has_value(); }));
  ExpectAll(in_memory_, fast);
  EXPECT_FALSE(slow.end.has_value());
  EXPECT_TRUE(slow.sink.blocks.empty());
  hold_.Set(false);
  ASSERT_TRUE(MoveUntil({near_.get(), far_.get()},
                        [&] { return slow.end.has_value(); }));
  ExpectAll(on_ssd_, slow);
}

TEST_F(SlowSsdTest, AWorkerMayLeaveWhileItsBlocksAreRead) {
  const SessionHandle on_ssd = OpenOver(on_ssd_);
  // More often than there are gathers and buffers, so that none gets lost.
  for (int i = 0; i < 2 * kPushBuffers; ++i) {
    hold_.Set(true);
    Fetch left;
    StartFetch(far_.get(), on_ssd, on_ssd_, &left);
    ASSERT_TRUE(MoveUntil({far_.get()}, [&] { return hold_.waiting() > 0; }));
    far_ = nullptr;
    for (int moves = 0; moves < 10; ++moves) plane_->RunOnce();
    hold_.Set(false);
    far_ = Join();
  }
  Fetch fetch;
  StartFetch(far_.get(), on_ssd, on_ssd_, &fetch);
  ASSERT_TRUE(
      MoveUntil({far_.get()}, [&] { return fetch.end.has_value(); }));
  ExpectAll(on_ssd_, fetch);
}

TEST_F(SlowSsdTest, AStoreMayEndWhileBlocksAreRead) {
  const SessionHandle on_ssd = OpenOver(on_ssd_);
  hold_.Set(true);
  Fetch cut;
  StartFetch(far_.get(), on_ssd, on_ssd_, &cut);
  ASSERT_TRUE(MoveUntil({far_.get()}, [&] { return hold_.waiting() > 0; }));
  std::thread release([this] {
    poll(nullptr, 0, 50);  // the plane is ending by then
    hold_.Set(false);
  });
  plane_ = nullptr;  // waits for what runs
  release.join();
  ASSERT_EQ(hold_.waiting(), 0);
  for (int i = 0; i < 10; ++i) far_->client.Progress();
  ASSERT_TRUE(cut.end.has_value());
  EXPECT_FALSE(cut.end->ok());
}

TEST_F(SlowSsdTest, ACorrectionWaitsForItsBlocksAlone) {
  const SessionHandle on_ssd = OpenOver(on_ssd_);
  const SessionHandle in_memory = OpenOver(in_memory_);
  TestCorrection correction(kTestGeometry, on_ssd_.blocks(), 4);
  KeepingCorrectSink sink;
  std::optional<absl::Status> end;
  hold_.Set(true);
  FC_CHECK_OK(far_->client
                  .Correct(on_ssd, correction.Request(), &sink,
                           [&](const absl::Status& got) { end = got; })
                  .status());
  ASSERT_TRUE(MoveUntil({near_.get(), far_.get()},
                        [&] { return hold_.waiting() > 0; }));
  Fetch fast;
  StartFetch(near_.get(), in_memory, in_memory_, &fast);
  ASSERT_TRUE(MoveUntil({near_.get(), far_.get()},
                        [&] { return fast.end.has_value(); }));
  ExpectAll(in_memory_, fast);
  EXPECT_FALSE(end.has_value());
  EXPECT_TRUE(sink.blocks.empty());
  hold_.Set(false);
  ASSERT_TRUE(MoveUntil({near_.get(), far_.get()},
                        [&] { return end.has_value(); }));
  EXPECT_EQ(*end, absl::OkStatus());
  EXPECT_EQ(sink.blocks.size(), 4 * kTestGeometry.kv_heads);
  ExpectBlocks(sink, on_ssd_, 0);
}

// Memory is full, and the SSD hangs.
class FullMemoryTest : public SlowSsdTest {
 protected:
  using End = std::optional<absl::Status>;

  // Until a put waits for room, whose end *end gets.
  void FillMemory(size_t waiting_put_bytes, End* end) {
    StoreOptions options = Options();
    options.dram_bytes = 6 * SealedBytes();
    Leave();
    files_ = std::make_shared<MemoryFiles>();
    StartHeld(options, waiting_put_bytes);
    near_ = Join();
    far_ = Join();
    Fill(in_memory_);  // and is not on SSD yet, so it may not be evicted
    reader_ = OpenOver(in_memory_);
    writer_ = OpenOver(large_);
    hold_.Set(true);
    while (hold_.waiting() == 0) {
      end->reset();
      PutNext(end);
      ASSERT_TRUE(MoveUntil({near_.get(), far_.get()}, [&] {
        return end->has_value() || hold_.waiting() > 0;
      }));
    }
    EXPECT_EQ(store_->metrics().puts_waited->Value(), 1);
  }
  void PutNext(End* end) {
    ASSERT_LT(segment_, kLargeSegments);
    const int first = segment_++ * kSegmentBlocks;
    FC_CHECK_OK(far_->client.PutBlocks(
        writer_, 0, first, kSegmentBlocks,
        large_.PutPayload(0, first, kSegmentBlocks),
        [end](const absl::Status& got) { *end = got; }));
  }
  bool Comes(const End& end) {
    return MoveUntil({near_.get(), far_.get()},
                     [&] { return end.has_value(); });
  }
  void ExpectMemoryServes() {
    Fetch fetch;
    StartFetch(near_.get(), reader_, in_memory_, &fetch);
    ASSERT_TRUE(Comes(fetch.end));
    ExpectAll(in_memory_, fetch);
  }
  size_t PutBytes() const {
    return large_.PutPayload(0, 0, kSegmentBlocks).size();
  }

  static constexpr int kLargeSegments = 8;
  const TestContext large_{3, kLargeSegments};
  SessionHandle reader_;
  SessionHandle writer_;
  int segment_ = 0;  // of large_, the next
};

TEST_F(FullMemoryTest, IsServedWhileAPutWaitsForRoom) {
  End put;
  FillMemory(kWaitingPutBytesMax, &put);
  ExpectMemoryServes();
  EXPECT_FALSE(put.has_value());
  hold_.Set(false);
  ASSERT_TRUE(Comes(put));
  EXPECT_EQ(*put, absl::OkStatus());
}

TEST_F(FullMemoryTest, RefusesPutsWhenATenantHasTooManyThatWait) {
  End waits, refused;
  FillMemory(2 * PutBytes(), &waits);
  PutNext(&refused);
  ASSERT_TRUE(Comes(refused));
  EXPECT_TRUE(absl::IsResourceExhausted(*refused)) << *refused;
  EXPECT_EQ(store_->metrics().refused_busy->Value(), 1);
  ExpectMemoryServes();
  EXPECT_FALSE(waits.has_value());
  hold_.Set(false);
  ASSERT_TRUE(Comes(waits));
  EXPECT_EQ(*waits, absl::OkStatus());
  // What waited is counted no more.
  End next;
  PutNext(&next);
  ASSERT_TRUE(Comes(next));
  EXPECT_EQ(*next, absl::OkStatus());
}

}  // namespace
}  // namespace forecache
