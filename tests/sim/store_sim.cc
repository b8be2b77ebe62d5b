#include "tests/sim/store_sim.h"

#include <algorithm>
#include <bit>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/testing/fake_clock.h"
#include "kvstore/ssd/testing/memory_disk.h"
#include "tests/kvstore/data_plane_fixture.h"
#include "tests/sim/foreign_transport.h"
#include "tests/sim/sim_knowledge.h"

namespace forecache {
namespace {

// A segment on SSD keeps 40 KiB in memory while a session has it; free memory
// is in pieces.
constexpr size_t kShortOfMemory = size_t{64} << 10;

// Threads: one thread.
class Sim : public BlockSink {
 public:
  explicit Sim(const SimOptions& options)
      : options_(options),
        rng_(options.seed),
        // Half of the stores have an SSD that is large enough for all.
        roomy_(rng_.Below(2) == 0) {
    for (int i = 0; i < kContexts; ++i) contexts_.emplace_back(100 + i, 3);
    Start();
  }

  SimResult Run() {
    for (int i = 0; i < options_.steps && result_.failure.empty(); ++i) {
      Step();
      CheckBounds();
    }
    plane_ = nullptr;
    client_ = nullptr;
    store_ = nullptr;
    return result_;
  }

  void OnBlock(int layer, const wire::PushEntry& entry, ByteView k,
               ByteView v) override {
    const TestContext& context = contexts_[reading_->context];
    const bool is_right =
        std::ranges::equal(
            k, context.Part(layer, entry.kv_head, entry.block, false)) &&
        std::ranges::equal(
            v, context.Part(layer, entry.kv_head, entry.block, true));
    if (!is_right) Fail(absl::StrCat("block ", entry.block, " is wrong"));
    if (!Known(layer, entry.block)) {
      Fail(absl::StrCat("block ", entry.block, " was never put"));
    }
    ++result_.blocks_read;
    Note(entry.block);
  }
  void OnBlockFailed(int layer, const wire::FetchEntry& entry,
                     const absl::Status& why) override {
    Note(static_cast<uint64_t>(why.code()));
    const Stored& stored =
        stored_[reading_->context][entry.block / kSegmentBlocks];
    const bool may_miss = !Known(layer, entry.block) || stored.damaged;
    if (!may_miss && !absl::IsUnauthenticated(why)) {
      Fail(absl::StrCat("block ", entry.block, " does not come: ",
                        why.ToString()));
    }
  }

 private:
  void Note(uint64_t value) {
    result_.trace = std::rotl((result_.trace ^ value) * 0x100000001B3u, 29);
  }
  void Fail(const std::string& what) {
    if (result_.failure.empty()) result_.failure = what;
  }
  bool Known(int layer, uint32_t block) const {
    const SegmentKnown& segment = reading_->segments[block / kSegmentBlocks];
    return segment.sealed || segment.put[layer][block % kSegmentBlocks];
  }

  StoreOptions Options() {
    StoreOptions options;
    options.dram_bytes = size_t{1} << 20;  // a handful of segments
    options.sessions_max = kSessionsAtOnce + 1;
    options.tenant_secret = TenantSecret::FromPhrase("simulation");
    options.random = [this](MutableBytes bytes) {
      for (std::byte& byte : bytes) byte = std::byte(random_.Next());
    };
    options.ssd.tier.capacity_bytes = size_t{roomy_ ? 16u : 5u} << 20;
    options.ssd.tier.extent_bytes = size_t{64} << 10;
    options.ssd.scrub_bytes_per_second = 0;
    options.ssd.background = false;
    return options;
  }

  void Start() {
    metrics_ = std::make_unique<Metrics>();
    store_ = *StoreCore::Create(Options(), &clock_, metrics_.get(),
                                NewMemoryDisk(files_));
    plane_ = std::make_unique<DataPlane>(store_.get(),
                                         std::make_unique<LoopbackTransport>(),
                                         DataPlaneOptions{.push_buffers = 2});
    transport_ = std::make_unique<ForeignTransport>(options_.plant ==
                                                    Plant::kForeignBytes);
    client_ = std::make_unique<DataClient>(transport_.get(), &clock_);
    std::optional<absl::Status> hello;
    FC_CHECK_OK(client_->Connect(
        AddressOf(*plane_), [&](const absl::Status& got) { hello = got; }));
    Move([&] { return hello.has_value(); });
    FC_CHECK_OK(hello.value_or(absl::UnknownError("no hello")));
  }

  // The process ends; with `crash` the machine does, too.
  void Restart(bool crash) {
    result_.evictions +=
        static_cast<int>(store_->metrics().segments_evicted->Value() +
                         store_->metrics().segments_demoted->Value());
    plane_ = nullptr;
    client_ = nullptr;
    transport_ = nullptr;
    store_ = nullptr;
    sessions_.clear();
    if (crash) {
      files_->Crash(rng_.Next() | 1);
      if (options_.plant == Plant::kDiskForgets) {
        files_ = std::make_shared<MemoryFiles>();
      }
    }
    ++result_.restarts;
    Start();
  }

  template <typename Done>
  void Move(const Done& done) {
    for (int i = 0; i < 10'000 && !done(); ++i) {
      plane_->RunOnce();
      client_->Progress();
    }
  }
  absl::Status Await(
      const std::function<absl::Status(DataClient::Done)>& start) {
    std::optional<absl::Status> end;
    const absl::Status started =
        start([&](const absl::Status& got) { end = got; });
    if (!started.ok()) return started;
    Move([&] { return end.has_value(); });
    if (!end) {
      Fail("a request never ends");
      return absl::UnknownError("never");
    }
    return *end;
  }

  void Step() {
    const uint64_t choice = rng_.Below(100);
    Note(choice);
    if (choice < 12) return Open();
    if (choice < 45) return Put();
    if (choice < 60) return Seal();
    if (choice < 75) return Fetch();
    if (choice < 79) return Close();
    if (choice < 82) return Lookup();
    if (choice < 88) return AdvanceClock();
    if (choice < 95) return RunSsd();
    if (choice < 96) return Damage();
    if (choice < 98) return Fetch();
    Restart(/*crash=*/rng_.Below(2) == 0);
  }

  SessionKnown* AnySession() {
    if (sessions_.empty()) return nullptr;
    return &sessions_[rng_.Below(sessions_.size())];
  }

  // Most often the first that is not sealed, so that contexts become whole.
  int AnySegment(const SessionKnown& session) {
    int first = 0;
    while (first < kSegments - 1 && session.segments[first].sealed) ++first;
    return rng_.Below(4) != 0 ? first : static_cast<int>(rng_.Below(kSegments));
  }

  void Open() {
    const int c = static_cast<int>(rng_.Below(kContexts));
    const auto opened = store_->OpenSession(TestModel(), contexts_[c].tokens(),
                                            "sim");
    Note(static_cast<uint64_t>(opened.status().code()));
    if (!opened.ok()) {
      if (!absl::IsResourceExhausted(opened.status()) ||
          sessions_.size() < kSessionsAtOnce) {
        Fail(absl::StrCat("open: ", opened.status().ToString()));
      }
      return;
    }
    Note(opened->cached_tokens);
    SessionKnown session;
    session.handle = {opened->id, {opened->key[0], opened->key[1]},
                      kTestGeometry};
    session.context = c;
    for (uint32_t segment : opened->held_segments) {
      session.segments[segment].sealed = true;
      if (!stored_[c][segment].sealed) Fail("held, and never sealed");
    }
    bool leading = true;
    for (int i = 0; i < kSegments; ++i) {
      const Stored& stored = stored_[c][i];
      leading = leading && stored.durable && !stored.damaged;
      if (leading && roomy_ && !session.segments[i].sealed &&
          !IsLeftOut(c, i)) {
        Fail(absl::StrCat("durable segment ", i, " of context ", c,
                          " is lost"));
      }
    }
    sessions_.push_back(session);
    if (sessions_.size() > kSessionsAtOnce) CloseAt(0);
  }

  // A session may go without what is on SSD when sessions hold all the memory
  // that its code planes would take; it is found all the same.
  bool IsLeftOut(int context, int segment) {
    const StoreOccupancy now = store_->Occupancy();
    if (now.dram_capacity_bytes - now.dram_bytes > kShortOfMemory) return false;
    const auto cached =
        store_->LookupPrefix(TestModel(), contexts_[context].tokens());
    return cached.ok() && *cached >= (segment + 1) * kSegmentTokens;
  }

  void CloseAt(size_t i) {
    store_->CloseSession(sessions_[i].handle.id);
    sessions_.erase(sessions_.begin() + i);
  }
  void Close() {
    if (!sessions_.empty()) CloseAt(rng_.Below(sessions_.size()));
  }

  void Put() {
    SessionKnown* session = AnySession();
    if (session == nullptr) return;
    const int segment = AnySegment(*session);
    const int layer = static_cast<int>(rng_.Below(2));
    const bool whole = rng_.Below(4) != 0;
    const int first = whole ? 0 : static_cast<int>(rng_.Below(16));
    const int count =
        whole ? 16 : 1 + static_cast<int>(rng_.Below(16 - first));
    const int at = segment * kSegmentBlocks + first;
    const absl::Status put = Await([&](DataClient::Done done) {
      return client_->PutBlocks(
          session->handle, layer, at, count,
          contexts_[session->context].PutPayload(layer, at, count),
          std::move(done));
    });
    Note(static_cast<uint64_t>(put.code()));
    SegmentKnown& known = session->segments[segment];
    if (put.ok()) {
      for (int i = first; i < first + count; ++i) known.put[layer].set(i);
      return;
    }
    const bool may_fail =
        (absl::IsFailedPrecondition(put) && known.sealed) ||
        absl::IsResourceExhausted(put) || absl::IsUnauthenticated(put);
    if (!may_fail) Fail(absl::StrCat("put: ", put.ToString()));
  }

  void Seal() {
    SessionKnown* session = AnySession();
    if (session == nullptr) return;
    const int segment = AnySegment(*session);
    const auto sealed = store_->SealSegment(
        session->handle.id, segment,
        contexts_[session->context].SegmentTokens(segment));
    Note(static_cast<uint64_t>(sealed.status().code()));
    SegmentKnown& known = session->segments[segment];
    Stored& stored = stored_[session->context][segment];
    const bool whole = known.put[0].all() && known.put[1].all();
    if (!sealed.ok()) {
      const bool before = segment == 0 || session->segments[segment - 1].sealed;
      const absl::Status& why = sealed.status();
      const bool may_fail =
          absl::IsResourceExhausted(why) || absl::IsNotFound(why) ||
          (absl::IsDataLoss(why) && stored.damaged) ||
          (absl::IsFailedPrecondition(why) &&
           (!whole || !before || stored.damaged));
      if (!may_fail) Fail(absl::StrCat("seal: ", why.ToString()));
      return;
    }
    if (!whole && !known.sealed) Fail("sealed, and not all of it was put");
    known.sealed = stored.sealed = true;
    if (rng_.Below(2) == 0) return;
    RunAllSsd();
    if (roomy_ && store_->AwaitDurable(sealed->id)) stored.durable = true;
    Note(stored.durable);
  }

  void Fetch() {
    reading_ = AnySession();
    if (reading_ == nullptr) return;
    std::set<uint32_t> blocks;
    for (uint64_t i = 1 + rng_.Below(12); i > 0; --i) {
      blocks.insert(rng_.Below(kSegments * kSegmentBlocks));
    }
    const int layer = static_cast<int>(rng_.Below(2));
    std::vector<wire::FetchEntry> entries;
    for (uint32_t block : blocks) {
      entries.push_back({block, static_cast<uint16_t>(rng_.Below(2)), 0,
                         static_cast<uint32_t>(entries.size()), 1});
    }
    const absl::Status end = Await([&](DataClient::Done done) {
      return client_->Fetch(reading_->handle, layer, entries, this,
                            std::move(done))
          .status();
    });
    Note(static_cast<uint64_t>(end.code()));
    if (!end.ok() && !absl::IsUnauthenticated(end)) {
      Fail(absl::StrCat("fetch: ", end.ToString()));
    }
  }

  void Lookup() {
    const int c = static_cast<int>(rng_.Below(kContexts));
    const auto cached =
        store_->LookupPrefix(TestModel(), contexts_[c].tokens());
    if (!cached.ok()) return Fail("lookup");
    Note(*cached);
    for (int i = 0; i < *cached / kSegmentTokens; ++i) {
      if (!stored_[c][i].sealed) Fail("found, and never sealed");
    }
  }

  void AdvanceClock() {
    if (rng_.Below(8) != 0) {
      clock_.Advance(static_cast<Nanos>(rng_.Below(2000)) * kMillisecond);
      return;
    }
    clock_.Advance(kSessionIdleTimeout + kSecond);
    if (store_->ExpireIdle() != static_cast<int>(sessions_.size())) {
      Fail("sessions that idle did not end");
    }
    sessions_.clear();
  }

  void RunSsd() {
    for (uint64_t i = rng_.Below(6); i > 0; --i) Note(store_->RunSsd());
  }
  void RunAllSsd() {
    for (int i = 0; i < 1000 && store_->RunSsd(); ++i) {
    }
  }

  void Damage() {
    SessionKnown* session = AnySession();
    if (session == nullptr) return;
    const uint32_t block = rng_.Below(kSegments * kSegmentBlocks);
    const absl::Status flipped = store_->CorruptBlock(
        session->handle.id, rng_.Below(2), rng_.Below(2), block,
        rng_.Below(2) == 0, rng_.Below(1000));
    Note(static_cast<uint64_t>(flipped.code()));
    if (flipped.ok()) {
      stored_[session->context][block / kSegmentBlocks].damaged = true;
    }
  }

  void CheckBounds() {
    const StoreOccupancy now = store_->Occupancy();
    Note(now.dram_bytes);
    Note(now.segments);
    if (now.dram_bytes > now.dram_capacity_bytes) Fail("DRAM passes its bound");
    if (now.ssd_bytes > now.ssd_capacity_bytes) Fail("SSD passes its bound");
    if (now.sessions != sessions_.size()) {
      Fail(absl::StrCat(now.sessions, " sessions are open, not ",
                        sessions_.size()));
    }
  }

  const SimOptions options_;
  Rng rng_;              // of what happens
  Rng random_{~0ull};    // of the store's ids and keys
  const bool roomy_;
  FakeClock clock_;
  std::vector<TestContext> contexts_;
  Stored stored_[kContexts][kSegments];
  std::shared_ptr<MemoryFiles> files_ = std::make_shared<MemoryFiles>();
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<StoreCore> store_;
  std::unique_ptr<DataPlane> plane_;
  std::unique_ptr<ForeignTransport> transport_;
  std::unique_ptr<DataClient> client_;
  std::vector<SessionKnown> sessions_;
  const SessionKnown* reading_ = nullptr;
  SimResult result_;
};

}  // namespace

SimResult RunStoreSim(const SimOptions& options) { return Sim(options).Run(); }

}  // namespace forecache
