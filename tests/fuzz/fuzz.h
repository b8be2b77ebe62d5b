// What a fuzz target defines, and the driver calls.
//
// A target feeds bytes to a decoder and aborts when a promise of the decoder is
// broken; sanitizers find the rest.  LLVMFuzzerTestOneInput has the shape that
// libFuzzer wants, too.
#ifndef FORECACHE_TESTS_FUZZ_FUZZ_H_
#define FORECACHE_TESTS_FUZZ_FUZZ_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/bytes.h"
#include "common/rng.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace forecache::fuzz {

using Bytes = std::vector<uint8_t>;

// Larger inputs are cut: nothing that is worth finding needs them.
inline constexpr size_t kInputBytesMax = size_t{256} << 10;

// Valid inputs, from which mutations start.
std::vector<Bytes> Seeds();

// Makes lengths and checksums of a mutated input agree again, where a decoder
// would turn it away at the door otherwise.
void Repair(Bytes* input, Rng* rng);

inline std::vector<Bytes> ToSeeds(std::span<const std::string> texts) {
  std::vector<Bytes> seeds;
  for (const std::string& text : texts) {
    seeds.emplace_back(text.begin(), text.end());
  }
  return seeds;
}
inline ByteView View(const Bytes& bytes) {
  return std::as_bytes(std::span<const uint8_t>(bytes));
}
inline Bytes ToBytes(ByteView view) {
  const auto* data = reinterpret_cast<const uint8_t*>(view.data());
  return {data, data + view.size()};
}

}  // namespace forecache::fuzz

#endif  // FORECACHE_TESTS_FUZZ_FUZZ_H_
