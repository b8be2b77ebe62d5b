// Allocations of a request do not grow with its blocks, on either side.
//
// The loopback transport allocates by message, now and then one more: hence a
// tolerance, far below one a block.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>
#include <vector>

#include "tests/kvstore/correction_fixture.h"

namespace {
size_t allocations = 0;
}  // namespace

void* operator new(size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace forecache {
namespace {

// Takes blocks and keeps nothing.
//
// Threads: one thread.
class CountingSink : public BlockSink, public CorrectSink {
 public:
  void OnBlock(int, const wire::PushEntry&, ByteView, ByteView) override {
    ++blocks;
  }
  void OnBlockFailed(int, const wire::FetchEntry&,
                     const absl::Status&) override {}
  void OnSlotReturned(int, int, const wire::OfferedSlot&,
                      const absl::Status&) override {}
  void OnCorrected(const CorrectResult&) override {}
  int blocks = 0;
};

constexpr size_t kTolerance = 16;

class AllocationTest : public StoreFixture {
 protected:
  AllocationTest()
      : context_(1, 3),
        plane_(store_.get(), std::make_unique<LoopbackTransport>(), {}),
        client_(&transport_, &clock_) {
    NewSession opened = Open(context_);
    session_ = {opened.id, {opened.key[0], opened.key[1]}, kTestGeometry};
    for (int i = 0; i < 3; ++i) {
      FC_CHECK_OK(PutAndSeal(opened.id, context_, i));
    }
    FC_CHECK_OK(client_.Connect(AddressOf(plane_), nullptr));
    Drive();
  }

  void Drive() {
    do {
      client_.Progress();
      plane_.RunOnce();
    } while (client_.requests_in_flight() > 0);
    client_.Progress();
    plane_.RunOnce();
  }

  // Allocations of one run of `start` and all that follows.
  template <typename Start>
  size_t Count(const Start& start) {
    start();
    Drive();  // vectors grow, the first time
    start();
    Drive();
    const size_t before = allocations;
    start();
    Drive();
    return allocations - before;
  }

  TestContext context_;
  DataPlane plane_;
  LoopbackTransport transport_;
  DataClient client_;
  SessionHandle session_;
  CountingSink sink_;
};

TEST_F(AllocationTest, FetchOfManyBlocksAllocatesAsOneOfFew) {
  auto fetch = [&](int blocks) {
    std::vector<wire::FetchEntry> entries =
        AllEntries(kTestGeometry, blocks);
    return Count([&] {
      FC_CHECK_OK(client_.Fetch(session_, 0, entries, &sink_, nullptr)
                      .status());
    });
  };
  const size_t many = fetch(48);
  EXPECT_EQ(sink_.blocks, 3 * 96);
  EXPECT_LE(many, fetch(1) + kTolerance);
}

TEST_F(AllocationTest, ProbeOfManyBlocksAllocatesAsOneOfFew) {
  std::vector<float> q(2 * 2 * 32, 0.5f);
  auto probe = [&](int blocks) {
    return Count([&] {
      FC_CHECK_OK(
          client_.Probe(session_, 0, blocks, 0.1f, q, nullptr).status());
    });
  };
  EXPECT_LE(probe(48), probe(16) + kTolerance);
}

TEST_F(AllocationTest, CorrectionOfManyBlocksAllocatesAsOneOfFew) {
  auto correct = [&](int slots) {
    TestCorrection correction(kTestGeometry, 48, slots);
    return Count([&] {
      FC_CHECK_OK(client_.Correct(session_, correction.Request(), &sink_,
                                  nullptr)
                      .status());
    });
  };
  const size_t many = correct(40);
  EXPECT_EQ(sink_.blocks, 3 * 80);
  EXPECT_LE(many, correct(1) + kTolerance);
}

}  // namespace
}  // namespace forecache
