// Probes over the loopback transport.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "kernels/block_scores.h"
#include "tests/kvstore/data_plane_fixture.h"

namespace forecache {
namespace {

// Scores of the reference kernels over a context's keys.
void ReferenceScores(const TestContext& context, int layer, int blocks,
                     const std::vector<float>& q, float scale,
                     std::vector<float>* lse, std::vector<float>* scores) {
  const KvGeometry& geometry = context.geometry();
  for (int head = 0; head < geometry.kv_heads; ++head) {
    std::vector<float> max(geometry.group * blocks), sums(geometry.group);
    ExactScores args;
    args.keys = context.Keys(layer, head);
    args.type = geometry.type;
    args.tokens = blocks * kBlockTokens;
    args.head_dim = geometry.head_dim;
    args.group = geometry.group;
    args.q = q.data() + head * geometry.group * geometry.head_dim;
    args.scale = scale;
    args.block_max = max.data();
    args.row_stride = blocks;
    args.lse = sums.data();
    ExactScoresRef(args);
    for (int g = 0; g < geometry.group; ++g) {
      lse->push_back(sums[g]);
      for (int block = 0; block < blocks; ++block) {
        scores->push_back(max[g * blocks + block] - sums[g]);
      }
    }
  }
}

struct ProbeCase {
  ProbeSource source;
  CodeKind kind;
  // Exact scores leave rounding to 16 bits.  A scan of 4-bit codes may be off
  // by 1 % of |q||k| scale, |q||k| being about 32, on top of the codes' own
  // error of a 15th of a channel's range; the noise of 2-bit ones has a
  // deviation of 0.3 |q||k| scale / sqrt(32), of 512 keys some 3 times that.
  float tolerance;
  int scan_threads = 0;
};

class ProbeTest : public DataPlaneFixture,
                  public ::testing::WithParamInterface<ProbeCase> {};

TEST_P(ProbeTest, AgreesWithTheReference) {
  client_ = nullptr;
  plane_ = nullptr;
  MakeStore(size_t{16} << 20, GetParam().source, GetParam().kind);
  MakePlane({.scan_threads = GetParam().scan_threads});
  TestContext context(4, 3);
  NewSession opened = Open(context);
  SessionHandle session = HandleOf(opened, context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  // Two sealed segments, and an open one of five blocks.
  ASSERT_EQ(PutAndSeal(opened.id, context, 0), absl::OkStatus());
  ASSERT_EQ(PutAndSeal(opened.id, context, 1), absl::OkStatus());
  ASSERT_EQ(ClientPut(session, context, 1, 32, 5), absl::OkStatus());
  Rng rng(5);
  std::vector<float> q(2 * 2 * 32);
  for (float& x : q) x = rng.Normal();
  const float scale = 1 / std::sqrt(32.0f);
  const float tolerance = GetParam().tolerance;
  for (int blocks : {37, 32, 20, 1}) {
    std::vector<float> lse, scores;
    ReferenceScores(context, 1, blocks, q, scale, &lse, &scores);
    auto got = ClientProbe(session, 1, blocks, q, scale);
    ASSERT_EQ(got.status(), absl::OkStatus());
    ASSERT_EQ(got->first.size(), lse.size());
    ASSERT_EQ(got->second.size(), scores.size());
    for (size_t i = 0; i < lse.size(); ++i) {
      EXPECT_NEAR(got->first[i], lse[i], tolerance) << blocks;
    }
    for (size_t i = 0; i < scores.size(); ++i) {
      EXPECT_NEAR(got->second[i], scores[i], tolerance) << blocks;
    }
  }
  EXPECT_GT(store_->metrics().probe_key_bytes->Value(), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Sources, ProbeTest,
    ::testing::Values(
        ProbeCase{ProbeSource::kCodes, CodeKind::k4Bit, 0.6f},
        ProbeCase{ProbeSource::kCodes, CodeKind::k2BitRotated, 2.0f},
        ProbeCase{ProbeSource::kExact, CodeKind::k4Bit, 4e-3f},
        ProbeCase{ProbeSource::kExact, CodeKind::k4Bit, 4e-3f, 3}));

TEST_F(DataPlaneFixture, ProbeOfAbsentBlocksIsMinusInfinity) {
  TestContext context(6, 1);
  SessionHandle session = HandleOf(Open(context), context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  std::vector<float> q(2 * 2 * 32, 1.0f);
  auto nothing = ClientProbe(session, 0, 40, q, 0.1f);
  ASSERT_EQ(nothing.status(), absl::OkStatus());
  for (float lse : nothing->first) EXPECT_EQ(lse, -INFINITY);
  for (float score : nothing->second) EXPECT_EQ(score, -INFINITY);
  ASSERT_EQ(ClientPut(session, context, 0, 2, 1), absl::OkStatus());
  auto one = ClientProbe(session, 0, 40, q, 0.1f);
  ASSERT_EQ(one.status(), absl::OkStatus());
  EXPECT_TRUE(std::isfinite(one->first[0]));
  EXPECT_EQ(one->second[1], -INFINITY);
  EXPECT_LE(one->second[2], 0);
  EXPECT_TRUE(std::isfinite(one->second[2]));
}

TEST_F(DataPlaneFixture, CancelTakesAProbeBack) {
  TestContext context(4, 1);
  NewSession opened = Open(context);
  SessionHandle session = HandleOf(opened, context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  ASSERT_EQ(PutAndSeal(opened.id, context, 0), absl::OkStatus());
  std::vector<float> q(2 * 2 * 32);
  absl::Status got;
  int ended = 0;
  const auto probe = client_->Probe(
      session, 0, 16, 0.2f, q, [&](const absl::StatusOr<ProbeResult>& result) {
        got = result.status();
        ++ended;
      });
  ASSERT_EQ(probe.status(), absl::OkStatus());
  client_->Cancel(*probe);
  EXPECT_EQ(ended, 1);
  EXPECT_TRUE(absl::IsCancelled(got)) << got;
  // The connection is as good as before; an answer to the probe, if the store
  // was faster, is nobody's.
  EXPECT_EQ(ClientProbe(session, 0, 16, q, 0.2f).status(), absl::OkStatus());
  EXPECT_EQ(ended, 1);
  EXPECT_LE(client_->counters().answers_late, 1u);
  EXPECT_EQ(client_->counters().messages_refused, 0u);
}

TEST_F(DataPlaneFixture, ManyProbesShareTheScanThreads) {
  MakePlane({.scan_threads = 2});
  TestContext context(4, 2);
  NewSession opened = Open(context);
  SessionHandle session = HandleOf(opened, context);
  ASSERT_EQ(Connect(), absl::OkStatus());
  ASSERT_EQ(PutAndSeal(opened.id, context, 0), absl::OkStatus());
  Rng rng(5);
  std::vector<float> q(2 * 2 * 32);
  for (float& x : q) x = rng.Normal();
  constexpr int kProbes = 100;
  int ended = 0;
  std::vector<float> first;
  for (int i = 0; i < kProbes; ++i) {
    ASSERT_EQ(client_->Probe(session, 1, 16, 0.2f, q,
                             [&](const absl::StatusOr<ProbeResult>& result) {
                               ++ended;
                               ASSERT_EQ(result.status(), absl::OkStatus());
                               std::vector<float> lse(result->lse.begin(),
                                                      result->lse.end());
                               if (first.empty()) first = lse;
                               EXPECT_EQ(lse, first);
                             }).status(),
              absl::OkStatus());
  }
  EXPECT_TRUE(Until([&] { return ended == kProbes; }));
  EXPECT_EQ(store_->metrics().probes->Value(), kProbes);
}

TEST_F(StoreFixture, WhoProbesWithoutEndStarvesNoFetch) {
  TestContext context(4, 1);
  NewSession opened = Open(context);
  ASSERT_EQ(PutAndSeal(opened.id, context, 0), absl::OkStatus());
  const SessionHandle session = {
      opened.id, {opened.key[0], opened.key[1]}, context.geometry()};
  DataPlane plane(store_.get(), std::make_unique<LoopbackTransport>(), {});
  LoopbackTransport transport;
  DataClient client(&transport, &clock_);
  ASSERT_EQ(client.Connect(AddressOf(plane), nullptr), absl::OkStatus());
  // On one thread, so that the store's queue of probes is never empty.
  constexpr int kProbes = 8;
  constexpr int kRoundsMost = 100;
  std::vector<float> q(2 * 2 * 32, 0.5f);
  int probing = 0, probed = 0;
  bool fetching = false, fetched = false;
  KeepingSink sink;
  for (int i = 0; i < kRoundsMost && !fetched; ++i) {
    while (probing < kProbes) {
      ASSERT_EQ(client.Probe(session, 0, 16, 0.2f, q,
                             [&](const absl::StatusOr<ProbeResult>& result) {
                               EXPECT_EQ(result.status(), absl::OkStatus());
                               --probing;
                               ++probed;
                             }).status(),
                absl::OkStatus());
      ++probing;
    }
    if (probed > kProbes && !fetching) {
      fetching = true;
      ASSERT_EQ(client.Fetch(session, 0, AllEntries(kTestGeometry, 16), &sink,
                             [&](const absl::Status& status) {
                               EXPECT_EQ(status, absl::OkStatus());
                               fetched = true;
                             }).status(),
                absl::OkStatus());
    }
    client.Progress();
    plane.RunOnce();
  }
  EXPECT_TRUE(fetched) << probed << " probes";
  ExpectBlock(sink, context, 0, 1, 15);
}

}  // namespace
}  // namespace forecache
