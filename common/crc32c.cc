#include "common/crc32c.h"

#include <isa-l/crc.h>

#include <algorithm>

namespace forecache {

uint32_t Crc32c(ByteView data, uint32_t seed) {
  constexpr size_t kStep = size_t{1} << 30;  // crc32_iscsi takes an int
  uint32_t state = ~seed;
  while (!data.empty()) {
    const size_t n = std::min(data.size(), kStep);
    state = crc32_iscsi(
        reinterpret_cast<unsigned char*>(const_cast<std::byte*>(data.data())),
        static_cast<int>(n), state);
    data = data.subspan(n);
  }
  return ~state;
}

}  // namespace forecache
