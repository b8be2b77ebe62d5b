// How a daemon tells whoever started it that it serves, and where.
#ifndef FORECACHE_COMMON_READY_FILE_H_
#define FORECACHE_COMMON_READY_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace forecache {

// Threads: a value.
struct Ready {
  std::string grpc;     // host:port
  std::string metrics;  // host:port
  std::string admin;    // host:port; empty: none
};

// Writes {"pid":…,"grpc":…,"metrics":…,"admin":…} to `path`, all at once:
// whoever sees the file sees all of it.  An empty path writes nothing.
absl::Status WriteReadyFile(const std::string& path, const Ready& ready);

}  // namespace forecache

#endif  // FORECACHE_COMMON_READY_FILE_H_
