#include "kvstore/probe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "common/check.h"
#include "tests/kvstore/context.h"

namespace forecache {
namespace {

class ProbeKindsTest : public ::testing::Test {
 protected:
  ProbeKindsTest()
      : arena_(*DramArena::Create(size_t{16} << 20)), context_(1, 3) {
    Rng rng(5);
    q_.resize(kTestGeometry.kv_heads * kTestGeometry.group *
              kTestGeometry.head_dim);
    for (float& x : q_) x = rng.Normal();
  }

  SegmentRef Sealed(int number, CodeKind kind) {
    return {SealedSegment(context_, number, kind, arena_.get()), nullptr,
            nullptr};
  }
  HeadScores Scan(std::vector<SegmentRef> segments) {
    SessionSnapshot session;
    session.geometry = kTestGeometry;
    const int blocks = static_cast<int>(segments.size()) * kSegmentBlocks;
    session.segments = std::make_shared<SegmentTable>(std::move(segments));
    Prober prober(ProbeSource::kCodes);
    prober.ScanHead(session, {0, blocks, 1 / std::sqrt(32.0f), q_}, 1);
    return prober.scores();
  }

  std::unique_ptr<DramArena> arena_;
  const TestContext context_;
  std::vector<float> q_;
};

// A store that was started with other codes holds segments of both kinds.
TEST_F(ProbeKindsTest, SegmentsOfBothKindsAreScoredEachByItsOwn) {
  const CodeKind kinds[] = {CodeKind::k4Bit, CodeKind::k2BitRotated,
                            CodeKind::k4Bit};
  std::vector<SegmentRef> all;
  for (int i = 0; i < 3; ++i) all.push_back(Sealed(i, kinds[i]));
  const HeadScores together = Scan(all);
  std::vector<double> sum(kTestGeometry.group);
  for (int i = 0; i < 3; ++i) {
    const HeadScores alone = Scan({all[i]});
    for (int g = 0; g < kTestGeometry.group; ++g) {
      for (int block = 0; block < kSegmentBlocks; ++block) {
        EXPECT_EQ(together.block_max[g * together.stride +
                                     i * kSegmentBlocks + block],
                  alone.block_max[g * alone.stride + block])
            << "segment " << i << " block " << block;
      }
      sum[g] += std::exp(double{alone.lse[g]} - together.lse[g]);
    }
  }
  for (double one : sum) EXPECT_NEAR(std::log(one), 0, 0.03);
}

}  // namespace
}  // namespace forecache
