// Views of raw memory, and little-endian fields in it.
#ifndef FORECACHE_COMMON_BYTES_H_
#define FORECACHE_COMMON_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace forecache {

using ByteView = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

// Views the bytes of `object`, which must be trivially copyable.
template <typename T>
ByteView AsBytes(const T& object) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const std::byte*>(&object), sizeof(T)};
}

// Views the elements of `items` as bytes.
template <typename T>
ByteView AsBytes(std::span<const T> items) {
  return std::as_bytes(items);
}

}  // namespace forecache

#endif  // FORECACHE_COMMON_BYTES_H_
