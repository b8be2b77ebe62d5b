// predictor/conv_net.h: a file of weights.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "common/check.h"
#include "common/crc32c.h"
#include "predictor/conv_builtin.h"
#include "predictor/conv_net.h"
#include "tests/fuzz/fuzz.h"

namespace forecache::fuzz {

std::vector<Bytes> Seeds() {
  ConvNet small;
  small.window = 8;
  small.channels1 = small.channels2 = 4;
  small.conv1.assign(36, 0.5f);
  small.bias1.assign(4, 0.1f);
  small.conv2.assign(144, -0.5f);
  small.bias2.assign(4, 0.1f);
  small.conv3.assign(4, 1.0f);
  return {ToBytes(BuiltinConvFile()), ToBytes(SerializeConvNet(small))};
}

void Repair(Bytes* input, Rng*) {
  if (input->size() < sizeof(ConvFileHeader) + sizeof(uint32_t)) return;
  const uint32_t magic = kConvMagic;
  std::memcpy(input->data(), &magic, sizeof(magic));
  const size_t covered = input->size() - sizeof(uint32_t);
  const uint32_t crc = Crc32c(View(*input).first(covered));
  std::memcpy(input->data() + covered, &crc, sizeof(crc));
}

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forecache;
  const ByteView file = std::as_bytes(std::span<const uint8_t>(data, size));
  const auto net = ParseConvNet(file);
  if (!net.ok()) return 0;
  FC_CHECK(net->window <= kConvWindowMax && net->channels1 <= kConvChannelsMax);
  FC_CHECK(std::all_of(net->conv2.begin(), net->conv2.end(),
                       [](float x) { return std::isfinite(x); }));
  FC_CHECK(std::ranges::equal(SerializeConvNet(*net), file));
  return 0;
}
