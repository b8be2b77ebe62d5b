// Included by wire.h only.
#ifndef FORECACHE_KVSTORE_WIRE_INL_H_
#define FORECACHE_KVSTORE_WIRE_INL_H_

#include <cstring>

#include "absl/strings/str_cat.h"
#include "kvstore/wire.h"

namespace forecache::wire {

template <typename T>
absl::StatusOr<T> BodyOf(const Message& message) {
  if (message.body.size() != sizeof(T)) {
    return absl::InvalidArgumentError(
        absl::StrCat("wire: body of type ", message.header.type, " has ",
                     message.body.size(), " bytes, expected ", sizeof(T)));
  }
  T body;
  std::memcpy(&body, message.body.data(), sizeof(T));
  return body;
}

}  // namespace forecache::wire

#endif  // FORECACHE_KVSTORE_WIRE_INL_H_
