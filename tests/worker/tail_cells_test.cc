#include "worker/tail_cells.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <memory>
#include <numeric>

#include "common/half.h"
#include "common/limits.h"
#include "common/rng.h"

namespace forecache {
namespace {

constexpr KvGeometry kGeometry{
    .layers = 2, .kv_heads = 2, .head_dim = 16, .group = 2};
constexpr int kBlocks = 10;  // two cells and a half
constexpr int kRows = 4;     // query heads
constexpr float kScale = 0.25f;

// A context of kBlocks blocks for each head, in an arena.
class TailCellsTest : public ::testing::Test {
 protected:
  TailCellsTest() {
    auto arena = HostArena::Create(kGeometry, kGeometry.kv_heads * kBlocks);
    EXPECT_TRUE(arena.ok()) << arena.status();
    arena_ = *std::move(arena);
    Rng rng(5);
    const size_t elements = kGeometry.PartBytes() / kKvElementBytes;
    for (int i = 0; i < kGeometry.kv_heads * kBlocks; ++i) {
      const auto lease = arena_->Allocate();
      EXPECT_TRUE(lease.ok()) << lease.status();
      slots_.push_back(lease->slot);
      std::vector<uint16_t> k(elements), v(elements);
      for (uint16_t& x : k) x = FloatToKv(kGeometry.type, rng.Normal());
      for (uint16_t& x : v) x = FloatToKv(kGeometry.type, rng.Normal());
      arena_->WriteBlock(lease->slot, std::as_bytes(std::span(k)),
                         std::as_bytes(std::span(v)));
    }
    for (int i = 0; i < kRows * kGeometry.head_dim; ++i) {
      q_.push_back(rng.Normal());
    }
  }

  std::vector<PageTable> Tables() const {
    std::vector<PageTable> tables(kGeometry.kv_heads);
    for (int head = 0; head < kGeometry.kv_heads; ++head) {
      tables[head].slots = slots_.data() + head * kBlocks;
      tables[head].pages = kBlocks;
    }
    return tables;
  }

  void AddBlock(int layer, int block, TailCells* cells) const {
    std::vector<int32_t> slots;
    for (int head = 0; head < kGeometry.kv_heads; ++head) {
      slots.push_back(slots_[head * kBlocks + block]);
    }
    cells->AddBlock(layer, *arena_, slots);
  }

  // What the tail of a layer is where `resident` was attended to no avail.
  std::vector<float> Attend(int layer, const std::vector<int32_t>& resident,
                            TailCells* cells) const {
    LayerTables tables;
    tables.blocks.assign(kGeometry.kv_heads, resident);
    std::vector<float> out(q_.size()),
        lse(kRows, -std::numeric_limits<float>::infinity());
    cells->Add(layer, q_.data(), kScale, tables, out, lse);
    out.insert(out.end(), lse.begin(), lse.end());
    return out;
  }

  // The mean key or value of `tokens` tokens from `first` on.
  std::vector<double> Mean(int head, int first, int tokens, bool key) const {
    std::vector<double> mean(kGeometry.head_dim);
    for (int token = first; token < first + tokens; ++token) {
      const std::byte* block =
          arena_->ReadBlock(slots_[head * kBlocks + token / kBlockTokens])
              .data();
      const auto* rows = reinterpret_cast<const uint16_t*>(
          block + (key ? 0 : kGeometry.PartBytes()));
      for (int c = 0; c < kGeometry.head_dim; ++c) {
        mean[c] += KvToFloat(kGeometry.type,
                             rows[token % kBlockTokens * kGeometry.head_dim +
                                  c]) /
                   tokens;
      }
    }
    return mean;
  }

  std::unique_ptr<HostArena> arena_;
  std::vector<int32_t> slots_;
  std::vector<float> q_;
};

TEST_F(TailCellsTest, StandsForMeansOfItsTokens) {
  TailCells cells(kGeometry);
  cells.Take(1, kBlocks * kBlockTokens, *arena_, Tables());
  const std::vector<float> got = Attend(1, {}, &cells);
  const int d = kGeometry.head_dim, tokens = kBlocks * kBlockTokens;
  for (int row = 0; row < kRows; ++row) {
    const int head = row / kGeometry.group;
    double sum = 0;
    std::vector<double> want(d);
    for (int first = 0; first < tokens; first += kTailCellTokens) {
      const int n = std::min(kTailCellTokens, tokens - first);
      const auto key = Mean(head, first, n, true);
      const auto value = Mean(head, first, n, false);
      double logit = 0;
      for (int c = 0; c < d; ++c) logit += q_[row * d + c] * key[c];
      const double weight = n * std::exp(logit * kScale);
      sum += weight;
      for (int c = 0; c < d; ++c) want[c] += weight * value[c];
    }
    // Codes of 8 bits: a mean's channel is off by 1/254 of the largest.
    for (int c = 0; c < d; ++c) {
      EXPECT_NEAR(got[row * d + c], want[c] / sum, 0.01) << row << ", " << c;
    }
    EXPECT_NEAR(got[kRows * d + row], std::log(sum), 0.01) << row;
  }
}

TEST_F(TailCellsTest, GrowsByBlocksAsIfTakenAtOnce) {
  TailCells whole(kGeometry), grown(kGeometry);
  whole.Take(1, kBlocks * kBlockTokens, *arena_, Tables());
  // The third block is not full yet when the prompt ends.
  grown.Take(1, 2 * kBlockTokens + 7, *arena_, Tables());
  for (int block = 2; block < kBlocks; ++block) AddBlock(1, block, &grown);
  EXPECT_EQ(Attend(1, {}, &grown), Attend(1, {}, &whole));
  EXPECT_EQ(Attend(1, {0, 5, 9}, &grown),
            Attend(1, {0, 5, 9}, &whole));
}

TEST_F(TailCellsTest, WhatIsResidentDoesNotCountTwice) {
  TailCells cells(kGeometry);
  cells.Take(1, kBlocks * kBlockTokens, *arena_, Tables());
  // Of the last cell half is resident; what is newer has no cell.
  const auto less = Attend(1, {8, 10}, &cells), all = Attend(1, {}, &cells);
  EXPECT_NE(less, all);
  EXPECT_LT(less.back(), all.back());  // a log-sum-exp
  std::vector<int32_t> every(kBlocks);
  std::iota(every.begin(), every.end(), 0);
  for (const float x : Attend(1, every, &cells)) {
    EXPECT_TRUE(x == 0 || std::isinf(x)) << x;
  }
}

TEST_F(TailCellsTest, TheFirstLayerHasNone) {
  TailCells cells(kGeometry);
  const size_t empty = cells.bytes();
  cells.Take(0, kBlocks * kBlockTokens, *arena_, Tables());
  AddBlock(0, 0, &cells);
  EXPECT_EQ(cells.bytes(), empty);
  for (const float x : Attend(0, {}, &cells)) {
    EXPECT_TRUE(x == 0 || std::isinf(x)) << x;
  }
}

TEST_F(TailCellsTest, TakesAboutWhatIsPlannedForIt) {
  TailCells cells(kGeometry);
  for (int layer = 0; layer < kGeometry.layers; ++layer) {
    cells.Take(layer, kBlocks * kBlockTokens, *arena_, Tables());
  }
  EXPECT_EQ(cells.bytes(), TailCells::BytesOf(kGeometry, kBlocks));
  for (int block = 0; block < 100; ++block) {
    AddBlock(1, block % kBlocks, &cells);
  }
  EXPECT_LT(cells.bytes(),
            TailCells::BytesOf(kGeometry, kBlocks + 2 * 100));
}

}  // namespace
}  // namespace forecache
