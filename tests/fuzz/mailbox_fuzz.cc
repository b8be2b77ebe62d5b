// transport/mailbox.h: a reader whose writer writes anything anywhere in the
// memory that they share: every view stays inside, and reading ends.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "common/check.h"
#include "tests/fuzz/fuzz.h"
#include "transport/mailbox.h"

namespace forecache::fuzz {
namespace {

constexpr uint64_t kToken = 77;
constexpr int kReadsMax = 1024;

// One step of an input.
struct Step {
  uint32_t kind;    // of 4: 0 write a message, 1 poke, 2 and 3 read
  uint32_t offset;  // of the poke; a message's payload bytes
  uint64_t value;
};
static_assert(sizeof(Step) == 16);

MutableBytes Memory() {
  static std::byte* const memory = static_cast<std::byte*>(
      std::aligned_alloc(64, (MailboxBytes() + 63) / 64 * 64));
  return {memory, MailboxBytes()};
}

void Read(MailboxReader* reader) {
  const auto inside = [](ByteView view) {
    return view.empty() || (view.data() >= Memory().data() &&
                            view.data() + view.size() <=
                                Memory().data() + Memory().size());
  };
  ByteView header, payload;
  for (int i = 0; i < kReadsMax && reader->Read(&header, &payload); ++i) {
    FC_CHECK(header.size() <= kHeaderBytesMax && inside(header));
    FC_CHECK(payload.size() <= kMailboxPayloadMax && inside(payload));
    reader->Release();
  }
}

}  // namespace

std::vector<Bytes> Seeds() {
  std::vector<Bytes> seeds;
  // Numbers and lengths of the first slots lie in the first kilobytes.
  for (uint32_t offset = 0; offset < 4096; offset += 64) {
    const Step steps[] = {{0, 100, 0}, {1, offset, 1}, {1, offset + 8, 2000},
                          {0, 5000, 0}, {2, 0, 0},     {0, 70000, 0},
                          {2, 0, 0}};
    seeds.push_back(ToBytes(std::as_bytes(std::span(steps))));
  }
  return seeds;
}

void Repair(Bytes* input, Rng* rng) {
  // Most pokes should hit what the reader looks at: the heads of slots.
  for (size_t at = 0; at + sizeof(Step) <= input->size(); at += sizeof(Step)) {
    Step step;
    std::memcpy(&step, input->data() + at, sizeof(step));
    step.kind %= 4;
    if (rng->Below(2) == 0) step.offset = 960 + rng->Below(64) * 1344;
    std::memcpy(input->data() + at, &step, sizeof(step));
  }
}

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forecache;
  using namespace forecache::fuzz;
  static const Bytes zeros(kMailboxPayloadMax);
  const MutableBytes memory = Memory();
  // Only what a reader looks at has to be clean: heads of slots.
  std::memset(memory.data(), 0, std::min<size_t>(memory.size(), 512 << 10));
  MailboxReader reader;
  reader.Format(memory, kToken);
  MailboxWriter writer;
  FC_CHECK(writer.Attach(memory, kToken));
  FC_CHECK(!MailboxWriter().Attach(memory, kToken + 1));
  for (; size >= sizeof(Step); data += sizeof(Step), size -= sizeof(Step)) {
    Step step;
    std::memcpy(&step, data, sizeof(step));
    if (step.kind % 4 == 0) {
      (void)writer.Write(View(zeros).first(step.value % kHeaderBytesMax),
                         View(zeros).first(step.offset % (128 << 10)));
    } else if (step.kind % 4 == 1) {
      const size_t at = step.offset % (memory.size() - sizeof(step.value));
      std::memcpy(memory.data() + at, &step.value, sizeof(step.value));
    } else {
      Read(&reader);
    }
  }
  Read(&reader);
  return 0;
}
