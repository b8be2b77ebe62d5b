// Bits that flip on a disk, wherever they are, give no wrong block.
#include <gtest/gtest.h>

#include "common/rng.h"
#include "tests/kvstore/ssd_fixture.h"

namespace forecache {
namespace {

class DamageTest : public SsdStoreFixture {
 protected:
  DamageTest() {
    for (int i = 0; i < 3; ++i) contexts_.emplace_back(70 + i, 2);
  }

  // A fresh disk with all contexts on it, and nobody uses it.
  void Write() {
    store_ = nullptr;
    files_ = std::make_shared<MemoryFiles>();
    Start();
    for (const TestContext& context : contexts_) Fill(context);
    RunAll();
    store_ = nullptr;
  }

  // Flips a bit of one of the files that begin with `prefix`.
  void Flip(const std::string& prefix, Rng* rng) {
    std::vector<std::string> names = files_->Names(prefix);
    std::erase_if(names, [&](auto& name) { return *files_->Size(name) == 0; });
    ASSERT_FALSE(names.empty());
    const std::string& name = names[rng->Below(names.size())];
    files_->FlipBit(name, rng->Below(*files_->Size(name)),
                    static_cast<int>(rng->Below(8)));
  }

  std::vector<TestContext> contexts_;
};

TEST_F(DamageTest, OfExtentsIsRefusedAndCounted) {
  int refused = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Write();
    Rng rng(seed);
    // Those in use come first, 3 of each segment.
    for (int i = 0; i < 4; ++i) {
      files_->FlipBit("/disk/extents", rng.Below(18 * kExtentBytes), 3);
    }
    Start();
    for (const TestContext& context : contexts_) {
      refused += ReadBack(context) < 2 * kSegmentTokens;
    }
    const double counted = store_->metrics().segments_dropped->Value();
    EXPECT_EQ(store_->Occupancy().ssd_segments, 6 - counted);
    // What was dropped is put again, and served.
    for (const TestContext& context : contexts_) {
      Fill(context);
      RunAll();
      EXPECT_EQ(ReadBack(context), 2 * kSegmentTokens);
    }
  }
  EXPECT_GT(refused, 20);
}

TEST_F(DamageTest, OfMetadataLosesSegmentsOrTheStartButServesNothingWrong) {
  int refused_starts = 0, lost = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    Write();
    Rng rng(seed);
    Flip(seed % 8 == 0 ? "/disk/format" : "/metadata/", &rng);
    if (absl::Status status = TryStart(Options()); !status.ok()) {
      EXPECT_FALSE(status.message().empty());
      ++refused_starts;
      continue;
    }
    for (const TestContext& context : contexts_) {
      const int tokens = ReadBack(context);
      EXPECT_GE(tokens, 0);
      lost += tokens < 2 * kSegmentTokens;
    }
  }
  RecordProperty("refused_starts", refused_starts);
  EXPECT_GT(refused_starts + lost, 10);
}

TEST_F(DamageTest, ACopyInMemoryServesWhatTheDiskLost) {
  TestContext& context = contexts_[0];
  Fill(context);
  RunAll();
  files_->FlipBit("/disk/extents", 77, 1);
  EXPECT_EQ(ReadBack(context), 2 * kSegmentTokens);
  EXPECT_EQ(store_->metrics().blocks_refused_read->Value(), 0);
}

}  // namespace
}  // namespace forecache
