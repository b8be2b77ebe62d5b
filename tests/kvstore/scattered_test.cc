// Contexts of which a store holds only a part, beside other stores.
#include <gtest/gtest.h>

#include <vector>

#include "tests/kvstore/store_fixture.h"

namespace forecache {
namespace {

class ScatteredTest : public StoreFixture {
 protected:
  NewSession OpenScattered(const TestContext& context, size_t tokens = 0) {
    std::span<const uint32_t> prompt = context.tokens();
    if (tokens > 0) prompt = prompt.first(tokens);
    auto opened = store_->OpenSession(TestModel(), prompt, "test",
                                      OpenOptions{.pins = PrefixPins::kAll});
    FC_CHECK_OK(opened.status());
    return *opened;
  }

  absl::Status SealAlone(uint64_t session, const TestContext& context,
                         int segment, int told = 1) {
    return store_
        ->SealSegment(session, segment,
                      context.tokens().subspan(
                          (segment + 1 - told) * kSegmentTokens,
                          told * kSegmentTokens))
        .status();
  }
};

TEST_F(ScatteredTest, SegmentsElsewhereAreNoGaps) {
  TestContext context(1, 4);
  NewSession session = OpenScattered(context);
  for (int segment : {1, 3}) {
    ASSERT_EQ(PutSegment(session.id, context, segment), absl::OkStatus());
    ASSERT_EQ(SealAlone(session.id, context, segment), absl::OkStatus());
  }
  NewSession other = OpenScattered(context);
  EXPECT_EQ(other.cached_tokens, 0);
  EXPECT_EQ(other.held_segments, (std::vector<uint32_t>{1, 3}));
  // Alone, a gap at the start is no prefix.
  EXPECT_EQ(Open(context).held_segments.size(), 0u);
  EXPECT_EQ(Open(context).cached_tokens, 0);
}

TEST_F(ScatteredTest, WhatIsDecodedIsFoundByThePromptOfLater) {
  TestContext context(2, 4);
  // The prompt has one segment; the store is to hold the third.
  NewSession session = OpenScattered(context, kSegmentTokens + 1);
  ASSERT_EQ(PutSegment(session.id, context, 2), absl::OkStatus());
  const absl::Status unknown = SealAlone(session.id, context, 2);
  EXPECT_TRUE(absl::IsFailedPrecondition(unknown)) << unknown;
  EXPECT_TRUE(absl::IsInvalidArgument(SealAlone(session.id, context, 2, 4)));
  ASSERT_EQ(SealAlone(session.id, context, 2, 2), absl::OkStatus());
  // What it was told it knows.
  ASSERT_EQ(PutSegment(session.id, context, 3), absl::OkStatus());
  ASSERT_EQ(SealAlone(session.id, context, 3), absl::OkStatus());
  EXPECT_EQ(OpenScattered(context).held_segments,
            (std::vector<uint32_t>{2, 3}));
}

TEST_F(ScatteredTest, AChainMustBeThePrompts) {
  TestContext context(3, 3), other(4, 3);
  NewSession session = OpenScattered(context);
  ASSERT_EQ(PutSegment(session.id, context, 1), absl::OkStatus());
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->SealSegment(session.id, 1, other.tokens().first(512)).status()));
  EXPECT_EQ(SealAlone(session.id, context, 1, 2), absl::OkStatus());
}

TEST_F(ScatteredTest, ADescendantGoesBeforeItsAncestorThoughAGapIsBetween) {
  MakeStore(3 * SealedBytes());
  TestContext context(5, 4), fill(6, 2);
  NewSession session = OpenScattered(context);
  for (int segment : {0, 3}) {
    ASSERT_EQ(PutAndSeal(session.id, context, segment), absl::OkStatus());
  }
  store_->CloseSession(session.id);
  NewSession filler = OpenScattered(fill);
  ASSERT_EQ(PutAndSeal(filler.id, fill, 0), absl::OkStatus());
  ASSERT_EQ(PutAndSeal(filler.id, fill, 1), absl::OkStatus());
  EXPECT_EQ(OpenScattered(context).held_segments, (std::vector<uint32_t>{0}));
}

}  // namespace
}  // namespace forecache
