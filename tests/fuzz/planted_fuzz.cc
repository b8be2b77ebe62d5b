// A decoder with a planted mistake: the driver has to find it.
//
// Input: "FCPL", a u32 count, a u32 CRC32C of the rest, then the rest.  The
// decoder trusts a count that is one too large.
#include <cstring>

#include "common/check.h"
#include "common/crc32c.h"
#include "tests/fuzz/fuzz.h"

namespace forecache::fuzz {
namespace {

constexpr char kMagic[] = "FCPL";
constexpr size_t kHeadBytes = 12;

uint32_t Word(const uint8_t* at) {
  uint32_t word;
  std::memcpy(&word, at, sizeof(word));
  return word;
}

}  // namespace

std::vector<Bytes> Seeds() {
  Bytes seed(kHeadBytes + 40);
  std::memcpy(seed.data(), kMagic, 4);
  seed[4] = 40;
  Rng rng(1);
  Repair(&seed, &rng);
  return {seed};
}

void Repair(Bytes* input, Rng* rng) {
  if (input->size() < kHeadBytes) return;
  std::memcpy(input->data(), kMagic, 4);
  const uint32_t crc = Crc32c(View(*input).subspan(kHeadBytes));
  std::memcpy(input->data() + 8, &crc, sizeof(crc));
}

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forecache;
  using namespace forecache::fuzz;
  if (size < kHeadBytes || std::memcmp(data, kMagic, 4) != 0) return 0;
  const ByteView rest = std::as_bytes(
      std::span<const uint8_t>(data + kHeadBytes, size - kHeadBytes));
  if (Crc32c(rest) != Word(data + 8)) return 0;
  const uint32_t count = Word(data + 4);
  if (count > rest.size() + 1) return 0;  // the mistake
  FC_CHECK(count <= rest.size()) << "read past the end";
  return 0;
}
