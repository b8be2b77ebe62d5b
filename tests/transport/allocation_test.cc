// After start, a message costs our code no memory: neither to send nor to
// receive.  Counts operator new of this whole binary; UCX itself is C and has
// pools of its own.

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "common/check.h"
#include "gtest/gtest.h"
#include "tests/transport/testing.h"
#include "transport/ucx_transport.h"

namespace {
uint64_t allocations = 0;  // the tests have one thread
}  // namespace

void* operator new(size_t size) {
  ++allocations;
  void* memory = malloc(size);
  if (memory == nullptr) abort();
  return memory;
}
void* operator new[](size_t size) { return operator new(size); }
void operator delete(void* memory) noexcept { free(memory); }
void operator delete[](void* memory) noexcept { free(memory); }
void operator delete(void* memory, size_t) noexcept { free(memory); }
void operator delete[](void* memory, size_t) noexcept { free(memory); }

namespace forecache {
namespace {

// Counts, and keeps nothing.
//
// Threads: one.
class Counter : public MessageHandler {
 public:
  void OnMessage(Endpoint*, ByteView, ByteView payload) override {
    ++count;
    bytes += payload.size();
  }
  void OnDisconnect(Endpoint*, const absl::Status&) override {}

  uint64_t count = 0;
  uint64_t bytes = 0;
};

struct Path {
  const char* name;
  const char* transports;
  bool mailboxes;
};

class AllocationTest : public testing::TestWithParam<Path> {
 protected:
  std::unique_ptr<Transport> Open(Counter* counter) {
    UcxOptions options;
    options.transports = GetParam().transports;
    options.mailboxes = GetParam().mailboxes;
    auto transport = OpenUcxTransport(options);
    FC_CHECK_OK(transport.status());
    (*transport)->SetHandler(counter);
    return *std::move(transport);
  }
};

TEST_P(AllocationTest, NoneAMessage) {
  Counter heard_a, heard_b;
  std::unique_ptr<Transport> a = Open(&heard_a);
  std::unique_ptr<Transport> b = Open(&heard_b);
  Endpoint* to_b = *a->Connect(b->Address());
  const std::vector<std::byte> payload(64 << 10);
  const size_t sizes[] = {64, 4096, 9000, 65536};
  constexpr int kWindow = 32;
  uint64_t sent = 0;
  uint64_t under_way = 0;
  auto send_many = [&](uint64_t count) {
    const uint64_t goal = sent + count;
    const Nanos deadline = Clock::Real()->Now() + 30 * kSecond;
    while ((sent < goal || under_way > 0 || heard_b.count < goal) &&
           Clock::Real()->Now() < deadline) {
      if (sent < goal && under_way < kWindow) {
        const size_t size = sizes[sent % 4];
        ++sent;
        ++under_way;
        FC_CHECK_OK(to_b->Send(AsBytes(sent),
                               ByteView(payload).subspan(0, size),
                               [&](const absl::Status&) { --under_way; }));
        if (under_way < kWindow) continue;
      }
      a->Progress();
      b->Progress();
    }
  };
  // Pools grow to what was ever under way at once: a round that needed nothing
  // new ends the start.
  uint64_t before = 0;
  for (int round = 0; round < 20 && allocations != before; ++round) {
    before = allocations;
    send_many(2000);
  }
  const uint64_t start = heard_b.count;
  EXPECT_EQ(start, sent);
  before = allocations;
  send_many(10000);
  EXPECT_EQ(heard_b.count, start + 10000);
  EXPECT_EQ(allocations - before, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Ucx, AllocationTest,
    testing::Values(Path{"mailbox", "all", true}, Path{"queue", "all", false},
                    Path{"tcp", "tcp", true}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace forecache
