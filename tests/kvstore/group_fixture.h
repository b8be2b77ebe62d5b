// Several stores and a StoreGroup over them, in one process.
#ifndef FORECACHE_TESTS_KVSTORE_GROUP_FIXTURE_H_
#define FORECACHE_TESTS_KVSTORE_GROUP_FIXTURE_H_

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kvstore/client/store_group.h"
#include "tests/kvstore/data_plane_fixture.h"

namespace forecache {

// One store, which can die and come back.
struct TestStore {
  explicit TestStore(Clock* clock) : clock(clock) { Revive(); }
  ~TestStore() { Kill(); }

  void Kill() {
    plane = nullptr;
    core = nullptr;
    metrics = nullptr;
  }
  // A connection dies, the store and its sessions live.
  void Reconnect() {
    plane = nullptr;
    plane = std::make_unique<DataPlane>(
        core.get(), std::make_unique<LoopbackTransport>(),
        DataPlaneOptions());
    plane->Start();
  }
  void Revive() {
    Kill();
    StoreOptions options;
    options.dram_bytes = size_t{16} << 20;
    options.probe_source = ProbeSource::kExact;
    options.tenant_secret = TenantSecret::FromPhrase("test");
    metrics = std::make_unique<Metrics>();
    core = *StoreCore::Create(options, clock, metrics.get());
    Reconnect();
  }

  Clock* const clock;
  std::unique_ptr<Metrics> metrics;
  std::unique_ptr<StoreCore> core;
  std::unique_ptr<DataPlane> plane;
};

class GroupFixture : public ::testing::Test {
 protected:
  explicit GroupFixture(int stores = 3) { Make(stores); }
  ~GroupFixture() override { group_ = nullptr; }

  void Make(int stores) {
    group_ = nullptr;
    stores_.clear();
    MemberList members;
    for (int m = 0; m < stores; ++m) {
      stores_.push_back(std::make_unique<TestStore>(&clock_));
      members.names.push_back("store-" + std::to_string(m));
    }
    sessions_ = std::make_unique<GroupSessions>(members);
    transport_ = std::make_unique<LoopbackTransport>();
    group_ = std::make_unique<StoreGroup>(transport_.get(), &clock_,
                                          sessions_.get());
    group_->SetOnLost([this](int member) { lost_.push_back(member); });
    for (int m = 0; m < stores; ++m) FC_CHECK_OK(Connect(m));
  }

  bool Until(const std::function<bool()>& done) {
    Nanos end = Clock::Real()->Now() + 10 * kSecond;
    while (!done()) {
      if (Clock::Real()->Now() > end) return false;
      if (group_->Progress() == 0) group_->Wait(kMillisecond);
    }
    return true;
  }

  absl::Status Await(
      const std::function<absl::Status(StoreGroup::Done)>& start) {
    bool ended = false;
    absl::Status result;
    absl::Status status = start([&](const absl::Status& got) {
      FC_CHECK(!ended) << "ended twice";
      ended = true;
      result = got;
    });
    if (!status.ok()) return status;
    if (!Until([&] { return ended; })) return absl::UnknownError("no answer");
    return result;
  }

  absl::Status Connect(int m) {
    absl::Status status = Await([&](StoreGroup::Done done) {
      return group_->Connect(m, AddressOf(*stores_[m]->plane),
                             std::move(done));
    });
    if (status.ok()) sessions_->SetAlive(m, true);
    return status;
  }

  // What a store says to OpenScattered.
  std::optional<OpenedSession> OpenAt(int m, const TestContext& context) {
    if (stores_[m]->core == nullptr) return std::nullopt;
    auto opened = stores_[m]->core->OpenSession(
        TestModel(), context.tokens(), "test",
        OpenOptions{.pins = PrefixPins::kAll});
    FC_CHECK_OK(opened.status());
    OpenedSession result;
    result.handle = {opened->id,
                     {opened->key[0], opened->key[1]},
                     context.geometry()};
    result.held_segments = opened->held_segments;
    return result;
  }

  OpenedSession Open(const TestContext& context) {
    std::vector<std::optional<OpenedSession>> opened;
    for (size_t m = 0; m < stores_.size(); ++m) {
      opened.push_back(OpenAt(static_cast<int>(m), context));
    }
    const auto tokens = context.tokens();
    return sessions_->Open({.geometry = context.geometry()},
                           {reinterpret_cast<const int32_t*>(tokens.data()),
                            tokens.size()},
                           "test", opened);
  }

  absl::Status Put(const SessionHandle& session, const TestContext& context,
                   int layer, int first, int count) {
    return Await([&](StoreGroup::Done done) {
      return group_->PutBlocks(session, layer, first, count,
                               context.PutPayload(layer, first, count),
                               std::move(done));
    });
  }

  absl::Status PutAll(const SessionHandle& session,
                      const TestContext& context) {
    for (int layer = 0; layer < context.geometry().layers; ++layer) {
      absl::Status status = Put(session, context, layer, 0, context.blocks());
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  // Seals each segment where it lies.
  void SealAll(const SessionHandle& session, const TestContext& context) {
    for (int i = 0; i < context.blocks() / kSegmentBlocks; ++i) {
      const SegmentPlace place = sessions_->Find(session.id, i);
      if (place.held) continue;
      FC_CHECK_OK(stores_[place.member]
                      ->core
                      ->SealSegment(place.handle.id, i,
                                    context.SegmentTokens(i))
                      .status());
    }
  }

  absl::Status Fetch(const SessionHandle& session, int layer,
                     const std::vector<wire::FetchEntry>& entries,
                     BlockSink* sink) {
    return Await([&](StoreGroup::Done done) {
      return group_->Fetch(session, layer, entries, sink, std::move(done))
          .status();
    });
  }

  struct Scores {
    absl::Status status;
    std::vector<float> lse, log_probability;
  };
  Scores Probe(const SessionHandle& session, int layer, int blocks,
               const std::vector<float>& q, float scale) {
    Scores scores;
    scores.status = Await([&](StoreGroup::Done done) {
      return group_->Probe(
          session, layer, blocks, scale, q,
          [&scores, done](const absl::StatusOr<ProbeResult>& result) {
            if (result.ok()) {
              scores.lse.assign(result->lse.begin(), result->lse.end());
              for (uint16_t bits : result->log_probability) {
                scores.log_probability.push_back(F16ToFloat(bits));
              }
            }
            done(result.status());
          }).status();
    });
    return scores;
  }

  // Segments of the session by member.
  std::vector<int> Spread(const SessionHandle& session, int segments) {
    std::vector<int> count(stores_.size());
    for (int i = 0; i < segments; ++i) {
      const int member = sessions_->Find(session.id, i).member;
      if (member >= 0) ++count[member];
    }
    return count;
  }

  FakeClock clock_;
  std::vector<std::unique_ptr<TestStore>> stores_;
  std::unique_ptr<GroupSessions> sessions_;
  std::unique_ptr<LoopbackTransport> transport_;
  std::unique_ptr<StoreGroup> group_;
  std::vector<int> lost_;
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_KVSTORE_GROUP_FIXTURE_H_
