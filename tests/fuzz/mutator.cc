#include "tests/fuzz/mutator.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <string>

namespace forecache::fuzz {
namespace {

constexpr uint64_t kEdges[] = {0,
                               1,
                               2,
                               15,
                               16,
                               17,
                               127,
                               128,
                               255,
                               256,
                               257,
                               4095,
                               4096,
                               65535,
                               65536,
                               0x7FFFFFFF,
                               0x80000000,
                               0xFFFFFFFF,
                               0x100000000,
                               0x7FFFFFFFFFFFFFFF,
                               0x8000000000000000,
                               0xFFFFFFFFFFFFFFFF};
constexpr const char* kNumbers[] = {"0",  "-1",    "65536", "4294967295",
                                    "18446744073709551616", "1e308", "1e-320",
                                    "NaN", "\"x\"", "null", "[]", "{}"};

uint64_t Edge(Rng* rng) {
  const uint64_t edge = kEdges[rng->Below(std::size(kEdges))];
  switch (rng->Below(4)) {
    case 0:
      return edge - 1;
    case 1:
      return edge + 1;
    default:
      return edge;
  }
}

// A number of 2, 4 or 8 bytes, most often where a field would lie.
void SetField(Bytes* input, Rng* rng) {
  const size_t size = size_t{2} << rng->Below(3);
  if (input->size() < size) return;
  size_t at = rng->Below(input->size() - size + 1);
  if (rng->Below(4) != 0) at -= at % size;
  uint64_t value = 0;
  std::memcpy(&value, input->data() + at, size);
  switch (rng->Below(4)) {
    case 0:
      value += 1;
      break;
    case 1:
      value -= 1;
      break;
    default:
      value = Edge(rng);
  }
  std::memcpy(input->data() + at, &value, size);
}

void SetNumber(Bytes* input, Rng* rng) {
  if (input->empty()) return;
  const auto is_digit = [](uint8_t c) { return std::isdigit(c) != 0; };
  auto from = std::find_if(input->begin() + rng->Below(input->size()),
                           input->end(), is_digit);
  const auto to = std::find_if_not(from, input->end(), is_digit);
  if (from == to) return;
  const std::string number = kNumbers[rng->Below(std::size(kNumbers))];
  from = input->erase(from, to);
  input->insert(from, number.begin(), number.end());
}

// [from, to) of something that has `size` bytes; mostly short.
std::pair<size_t, size_t> Range(size_t size, Rng* rng) {
  const size_t from = rng->Below(size);
  const size_t most = rng->Below(2) == 0 ? 8 : size - from;
  return {from, std::min(size, from + 1 + rng->Below(most))};
}

void Splice(const std::vector<Bytes>& others, Bytes* input, Rng* rng) {
  if (others.empty()) return;
  const Bytes& other = others[rng->Below(others.size())];
  if (other.empty()) return;
  const auto [from, to] = Range(other.size(), rng);
  const size_t at = rng->Below(input->size() + 1);
  if (rng->Below(2) == 0) {
    input->insert(input->begin() + at, other.begin() + from,
                  other.begin() + to);
    return;
  }
  if (input->size() < at + (to - from)) input->resize(at + (to - from));
  std::copy(other.begin() + from, other.begin() + to, input->begin() + at);
}

void MutateOnce(const std::vector<Bytes>& others, Bytes* input, Rng* rng) {
  if (input->empty()) {
    input->resize(1 + rng->Below(64));
    return;
  }
  switch (rng->Below(10)) {
    case 0:
      (*input)[rng->Below(input->size())] ^= 1 << rng->Below(8);
      break;
    case 1:
      (*input)[rng->Below(input->size())] = static_cast<uint8_t>(rng->Next());
      break;
    case 2:
    case 3:
    case 4:
      SetField(input, rng);
      break;
    case 5:
      SetNumber(input, rng);
      break;
    case 6: {
      const auto [from, to] = Range(input->size(), rng);
      input->erase(input->begin() + from, input->begin() + to);
      break;
    }
    case 7: {
      const auto [from, to] = Range(input->size(), rng);
      const Bytes copy(input->begin() + from, input->begin() + to);
      input->insert(input->begin() + to, copy.begin(), copy.end());
      break;
    }
    case 8:
      input->resize(rng->Below(input->size() + 1));
      break;
    default:
      Splice(others, input, rng);
  }
}

}  // namespace

void Mutate(const std::vector<Bytes>& others, Bytes* input, Rng* rng) {
  for (uint64_t i = 1 + rng->Below(8); i > 0; --i) {
    MutateOnce(others, input, rng);
  }
  if (input->size() > kInputBytesMax) input->resize(kInputBytesMax);
}

}  // namespace forecache::fuzz
