#include "kvstore/index.h"

#include <gtest/gtest.h>

#include <vector>

#include "kvstore/chain_numbers.h"
#include "kvstore/eviction/lru.h"

namespace forecache {
namespace {

SegmentId Id(uint8_t number) { return SegmentId{{number, 1}}; }

// Inserts without keeping the pin.
void Add(Index& index, uint8_t id, SegmentId parent) {
  index.Unpin(index.Insert(Id(id), parent));
}

Index NewIndex() { return Index(std::make_unique<LruEviction>()); }

TEST(IndexTest, LongestPrefixStopsAtTheFirstGap) {
  Index index = NewIndex();
  Add(index, 1, kRootSegment);
  Add(index, 2, Id(1));
  Add(index, 4, Id(3));
  std::vector<SegmentId> chain = {Id(1), Id(2), Id(3), Id(4)};
  EXPECT_EQ(index.LongestPrefix(chain), 2);
  EXPECT_EQ(index.LongestPrefix({}), 0);
  chain[0] = Id(9);
  EXPECT_EQ(index.LongestPrefix(chain), 0);
}

TEST(IndexTest, ParentsGoAfterTheirChildren) {
  Index index = NewIndex();
  Add(index, 1, kRootSegment);
  Add(index, 2, Id(1));
  Add(index, 3, Id(2));
  Add(index, 4, Id(1));
  EXPECT_EQ(index.Evict(), Id(3));
  EXPECT_EQ(index.Evict(), Id(2));
  EXPECT_EQ(index.Evict(), Id(4));
  EXPECT_EQ(index.Evict(), Id(1));
  EXPECT_EQ(index.Evict(), std::nullopt);
}

TEST(IndexTest, LeastRecentlyUsedLeafGoesFirst) {
  Index index = NewIndex();
  for (uint8_t id : {1, 2, 3}) Add(index, id, kRootSegment);
  index.Unpin(index.Pin(Id(1)));
  EXPECT_EQ(index.Evict(), Id(2));
  index.Unpin(index.Pin(Id(3)));
  EXPECT_EQ(index.Evict(), Id(1));
  EXPECT_EQ(index.Evict(), Id(3));
}

TEST(IndexTest, PinnedStay) {
  Index index = NewIndex();
  Index::EntryRef first = index.Insert(Id(1), kRootSegment);
  Index::EntryRef again = index.Pin(Id(1));
  EXPECT_EQ(first, again);
  EXPECT_EQ(index.Evict(), std::nullopt);
  index.Unpin(first);
  EXPECT_EQ(index.Evict(), std::nullopt);
  index.Unpin(again);
  EXPECT_EQ(index.Evict(), Id(1));
  EXPECT_EQ(index.Pin(Id(1)), nullptr);
}

TEST(IndexTest, DamagedParentLeavesItsChildrenAndComesBack) {
  Index index = NewIndex();
  Index::EntryRef damaged = index.Insert(Id(1), kRootSegment);
  Add(index, 2, Id(1));
  EXPECT_TRUE(index.Erase(Id(1)));
  EXPECT_FALSE(index.Erase(Id(1)));
  EXPECT_FALSE(damaged->held);
  std::vector<SegmentId> chain = {Id(1), Id(2)};
  EXPECT_EQ(index.LongestPrefix(chain), 0);
  Add(index, 1, kRootSegment);
  EXPECT_EQ(index.LongestPrefix(chain), 2);
  // The old pin is of the old entry, and the child still comes first.
  index.Unpin(damaged);
  EXPECT_EQ(index.Evict(), Id(2));
  EXPECT_EQ(index.Evict(), Id(1));
}

TEST(ChainNumbersTest, CountAncestorsInWhateverOrderTheyCame) {
  ChainNumbers numbers;
  numbers.Add(Id(3), Id(2));
  numbers.Add(Id(1), kRootSegment);
  numbers.Add(Id(2), Id(1));
  numbers.Add(Id(4), Id(2));
  numbers.Add(Id(12), Id(11));  // whose parent is gone
  numbers.Add(Id(13), Id(12));
  EXPECT_EQ(numbers.Of(Id(2)), 1);
  EXPECT_EQ(numbers.Of(Id(3)), 2);
  EXPECT_EQ(numbers.Of(Id(4)), 2);
  EXPECT_EQ(numbers.Of(Id(1)), 0);
  EXPECT_EQ(numbers.Of(Id(13)), 1);
  EXPECT_EQ(numbers.Of(Id(12)), 0);
}

}  // namespace
}  // namespace forecache
